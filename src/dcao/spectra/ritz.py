"""From a projected matrix to Ritz pairs, with residual bounds that include rounding (small, float64, CPU)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Which = Literal["largest", "smallest", "both"]


@dataclass(frozen=True, kw_only=True)
class Projection:
    """What ``m`` Lanczos steps know: ``A V = V H + beta * q e_m' + F``, with stored rows ``V``.

    Attributes:
        matrix: ``H``, ``(m, m)``, as measured: symmetric tridiagonal up to rounding and to what the operator lacks
            of symmetry.
        beta: Norm of the remainder.
        defects: ``(m,)`` norms of the columns of ``F``: rounding of the arithmetic and of the stored basis.
        nonorthogonality: Bound of ``||V V' - I||``.
        scale: Largest ``||A q||`` seen: a lower estimate of the norm of ``A``.
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
    """Wanted Ritz pairs: ``values`` and ``residuals`` ``(k,)``, ``coefficients`` ``(m, k)`` in the Lanczos basis."""

    values: Tensor
    residuals: Tensor
    coefficients: Tensor
    norm: float
    eps: float

    def converged(self, tolerance: float) -> bool:
        """Whether each residual is under ``tolerance`` times its value.

        Values that are zero to within the square root of the machine epsilon are measured against that, not against
        themselves.
        """
        floor = self.eps**0.5 * self.norm
        return bool((self.residuals <= tolerance * self.values.abs().clamp(min=floor)).all())

    def with_vector_rounding(self, rounding: Tensor) -> RitzPairs:
        """The residuals of the vectors as stored, which are ``rounding`` away from the exact ones."""
        return replace(self, residuals=self.residuals + 2.0 * self.norm * rounding)


def ritz_pairs(projection: Projection, k: int, which: Which, *, distinct: bool) -> RitzPairs:
    """The wanted eigenpairs of the symmetric part of ``H``, each with a bound of ``||A y - theta y|| / ||y||``.

    With ``A V s = V H s + beta s_m q + F s`` the residual is at most
    ``||(H - T) s|| + beta |s_m| + sum_j |s_j| ||F_j||``, corrected for ``V`` not being orthonormal.
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
        values, residuals, S = values[keep], residuals[keep], S[:, keep]
    chosen = _choose(len(values), k, which)
    norm = max([projection.scale, *values.abs().tolist()])
    return RitzPairs(
        values=values[chosen],
        residuals=residuals[chosen],
        coefficients=S[:, chosen],
        norm=norm,
        eps=projection.eps,
    )


def _choose(count: int, k: int, which: Which) -> list[int]:
    """Positions in ascending order of the wanted values, in the order they are reported."""
    descending = list(range(count))[::-1]
    if which == "largest":
        return descending[:k]
    if which == "smallest":
        return list(range(count))[:k]
    return descending if count <= 2 * k else descending[:k] + descending[-k:]


def _originals(values: Tensor, residuals: Tensor, S: Tensor, projection: Projection) -> list[int]:
    """Positions of the values that are no copies (after Cullum and Willoughby, 1985).

    Without reorthogonalisation rounding brings converged eigenvectors back. A copy on its way has next to no weight in
    the start vector; one that has arrived equals its original. Of two equals the better converged one stays.
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
