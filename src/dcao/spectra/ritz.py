"""From a projected matrix to Ritz pairs, with residual bounds that include rounding (small, float64, CPU)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Which = Literal["largest", "smallest", "both"]


@dataclass(frozen=True, kw_only=True)
class Projection:
    """The operator projected on the Krylov space: ``A V = V H + beta * q e_m' + F`` after ``m`` steps.

    Attributes:
        matrix: ``H``, ``(m, m)``, as measured: symmetric and tridiagonal up to rounding and to the asymmetry of the
            operator.
        beta: Norm of the remainder.
        defects: ``(m,)`` norms of the columns of ``F``: rounding of the arithmetic and of the stored basis ``V``.
        nonorthogonality: Upper bound on ``||V V' - I||``.
        scale: Largest ``||A q||`` of all steps: a lower bound on the norm of ``A``.
        eps: Machine epsilon of the arithmetic.
    """

    matrix: Tensor
    beta: float
    defects: Tensor
    nonorthogonality: float
    scale: float
    eps: float


@dataclass(frozen=True, kw_only=True)
class RitzPairs:
    """The wanted Ritz pairs.

    Attributes:
        values: ``(k,)`` Ritz values.
        residuals: ``(k,)`` upper bounds on ``||A y - theta y|| / ||y||``.
        asymmetries: ``(k,)`` the part of each residual that comes from products which contradict each other.
        coefficients: ``(m, k)`` Ritz vectors in the Lanczos basis, as columns.
        norm: Lower bound on the norm of the operator.
        eps: Machine epsilon of the arithmetic.
    """

    values: Tensor
    residuals: Tensor
    asymmetries: Tensor
    coefficients: Tensor
    norm: float
    eps: float

    def converged(self, tolerance: float) -> bool:
        """Whether each residual is at most ``tolerance`` times the absolute value of its Ritz value.

        A value below ``sqrt(eps)`` times the operator's norm counts as that large: relative to a value of zero no
        residual is small.
        """
        return bool((self.residuals <= tolerance * self._sizes()).all())

    def are_eigenvalues(self, tolerance: float | None) -> bool:
        """Whether each residual is small by the tolerance, or no larger than rounding makes it over many steps."""
        rounding = self.eps**0.5 * self.norm
        return bool((self.residuals <= ((tolerance or 0.0) * self._sizes()).clamp(min=rounding)).all())

    def contradict(self, tolerance: float) -> bool:
        """Whether the asymmetry of the products alone keeps a residual from the tolerance, however many are made."""
        return bool((self.asymmetries > tolerance * self._sizes()).any())

    def _sizes(self) -> Tensor:
        return self.values.abs().clamp(min=self.eps**0.5 * self.norm)

    def with_vector_rounding(self, rounding: Tensor) -> RitzPairs:
        """These pairs with residuals that hold for the stored vectors, which differ by ``rounding`` from exact ones."""
        return replace(self, residuals=self.residuals + 2.0 * self.norm * rounding)


def ritz_pairs(projection: Projection, k: int, which: Which, *, distinct: bool) -> RitzPairs:
    """The wanted eigenpairs of the symmetric part of ``H``, each with an upper bound on its residual.

    With ``A V s = V H s + beta s_m q + F s`` the residual is at most
    ``||(H - T) s|| + beta |s_m| + sum_j |s_j| ||F_j||``, corrected for ``V`` not being orthonormal. ``distinct`` leaves
    out the copies of converged values that arise without reorthogonalisation.
    """
    H = projection.matrix  # (m, m)
    T = (H + H.T) / 2.0
    values, S = torch.linalg.eigh(T)  # ascending
    asymmetry = torch.linalg.vector_norm((H - T) @ S, dim=0)
    remainder = projection.beta * S[-1:].abs().sum(dim=0)
    slack = min(projection.nonorthogonality, 0.5)
    residuals = (asymmetry * (1.0 + slack) + remainder + projection.defects @ S.abs()) / (1.0 - slack)
    if distinct:
        keep = _originals(values, residuals, S, projection)
        values, residuals, asymmetry, S = values[keep], residuals[keep], asymmetry[keep], S[:, keep]
    chosen = _choose(len(values), k, which)
    norm = max([projection.scale, *values.abs().tolist()])
    return RitzPairs(
        values=values[chosen],
        residuals=residuals[chosen],
        asymmetries=asymmetry[chosen],
        coefficients=S[:, chosen],
        norm=norm,
        eps=projection.eps,
    )


def _choose(count: int, k: int, which: Which) -> list[int]:
    """Indices of the wanted values among ``count`` ascending ones, in the order in which they are reported."""
    descending = list(range(count))[::-1]
    if which == "largest":
        return descending[:k]
    if which == "smallest":
        return list(range(count))[:k]
    return descending if count <= 2 * k else descending[:k] + descending[-k:]


def _originals(values: Tensor, residuals: Tensor, S: Tensor, projection: Projection) -> list[int]:
    """Indices of the values that are not copies of another one (after Cullum and Willoughby, 1985).

    Without reorthogonalisation rounding brings converged eigenvectors back. A copy that has not converged yet has
    almost no weight in the start vector, and one that has converged equals its original. Of two equal values the one
    with the smaller residual is kept.
    """
    weights = S[:1].abs().sum(dim=0).tolist()
    theta, residual = values.tolist(), residuals.tolist()
    equal = 1e3 * projection.eps * projection.scale
    keep: list[int] = []
    for i in reversed(range(len(theta))):
        if weights[i] <= projection.eps:
            continue
        if not keep:
            keep.append(i)
            continue
        original, gap = keep[-1], theta[keep[-1]] - theta[i]
        light, heavy = sorted((i, original), key=lambda pair: weights[pair])
        arriving = weights[light] <= projection.eps**0.5 * weights[heavy] and gap <= residual[light]
        if gap > equal and not arriving:
            keep.append(i)
        elif residual[i] < residual[original]:
            keep[-1] = i
    return keep[::-1]
