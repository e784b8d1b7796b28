"""Extreme eigenvalues of a symmetric operator by Lanczos, with bounds on their residuals."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dcao.isolation import without_autocast
from dcao.operators.base import LinearOperator, gradient_evaluations
from dcao.spectra.recurrences import FullRecurrence, LightRecurrence
from dcao.spectra.ritz import RitzPairs, Which, ritz_pairs
from dcao.vectors import random_vector

# Weight of a fresh random direction in a start made of previous Ritz vectors. Without it a start inside an invariant
# subspace never sees an eigenvector that has grown outside of it. It lowers the first Rayleigh quotient by
# 0.1**2 = 1 %.
REFRESH = 0.1

# Weight of previous Ritz vectors beyond the k wanted now. With equal weights the worst error of tracking the top pair
# in 4 products rose from 3 % to 17 % (digits MLP). With 0.1 it stays at 3 %, and a pair about to overtake is still
# found.
UNWANTED = 0.1


class LanczosStatus(enum.Enum):
    """How a Lanczos run ended."""

    CONVERGED = "every wanted pair has a residual below the tolerance"
    MAX_STEPS = "step budget spent before the wanted pairs met the tolerance"
    INVARIANT = "Krylov space exhausted: the Ritz values are eigenvalues"
    NONFINITE = "a product with the operator has nan or inf; the values are those of the steps before"


@dataclass(frozen=True, kw_only=True)
class LanczosResult:
    """Ritz pairs of one Lanczos run.

    Attributes:
        ritz_values: ``(k,)`` float64 on the CPU, descending (``which="smallest"``: ascending). A Ritz value never
            exceeds the largest eigenvalue, and may lie far under it after few steps.
        residuals: ``(k,)`` upper bounds on ``||A y - theta y||``, float64: some eigenvalue lies this close to each Ritz
            value (not necessarily the one of the same rank).
        ritz_vectors: ``(k, size)`` orthonormal rows in the basis dtype and on the basis device; ``None`` unless
            asked for.
        status: How the run ended.
        num_matvecs: Number of products with the operator.
        cost: Cost of these products, in gradient evaluations (one forward and one backward pass of the loss each).
        reason: The status in words, with its numbers.
        alphas: Diagonal of the tridiagonal matrix, ``(steps,)`` float64.
        betas: Off-diagonal of the tridiagonal matrix, followed by the norm of the last remainder, ``(steps,)`` float64.
    """

    ritz_values: Tensor
    residuals: Tensor
    ritz_vectors: Tensor | None
    status: LanczosStatus
    num_matvecs: int
    cost: float
    reason: str
    alphas: Tensor
    betas: Tensor


@without_autocast()
def lanczos(
    operator: LinearOperator,
    k: int = 1,
    *,
    num_steps: int | None = None,
    which: Which = "largest",
    start: Tensor | None = None,
    tolerance: float | None = None,
    reorthogonalize: Literal["full", "none"] = "full",
    vectors: bool = False,
    basis_dtype: torch.dtype | None = None,
    basis_device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> LanczosResult:
    """The ``k`` extreme Ritz pairs of ``operator`` after at most ``num_steps`` products; autocast is off meanwhile.

    One Krylov space sees one copy of a multiple eigenvalue: ``2 * I`` gives ``[2.]`` and ``INVARIANT`` whatever
    ``k`` is.

    Args:
        operator: Symmetric operator.
        k: Number of pairs wanted (fewer come back where the Krylov space is smaller).
        num_steps: Largest dimension of the Krylov space; default ``5 * (k + 1)``. From a random start ten steps bring
            the top pair of a network's Hessian to 1e-2 or better, and each further pair takes five more.
        which: ``"largest"``, ``"smallest"``, or ``"both"`` (``k`` of each end).
        start: A start vector ``(size,)``, used as it is. Or previous Ritz vectors ``(j, size)``: the start is then
            their normalised sum (the first ``k`` with weight 1, others 0.1) plus 10 % of a random direction, in which
            an eigenvector that has newly grown is found. Default: random.
        tolerance: Stop as soon as each wanted pair has ``residual <= tolerance * |ritz value|``. Default: make all
            ``num_steps`` steps.
        reorthogonalize: ``"full"`` keeps the whole basis (``num_steps + 3`` vectors at most, Ritz vectors included).
            ``"none"`` keeps 4 vectors, recognises copies of converged values and leaves them out; it has no Ritz
            vectors.
        vectors: Also return Ritz vectors.
        basis_dtype: Dtype of the stored basis; default the operator's. bfloat16 halves its memory; the residuals
            include the accuracy that this costs.
        basis_device: Device of the stored basis, for example ``"cpu"`` for a model on a GPU.
        generator: For the random directions; default: seed 0. The global generators are never used.

    Raises:
        ValueError: An argument is wrong. nan, inf or a lack of convergence are a status, not an error.

    Example:
        >>> from dcao.operators import MatrixOperator
        >>> result = lanczos(MatrixOperator(torch.diag(torch.tensor([1.0, 2.0, 5.0]))), k=2)
        >>> result.ritz_values.round(decimals=4).tolist(), result.status.name
        ([5.0, 2.0], 'INVARIANT')
    """
    num_steps = 5 * (k + 1) if num_steps is None else num_steps
    _check(k, num_steps, which, tolerance, reorthogonalize, vectors)
    cost_before = gradient_evaluations(operator, 0)
    first = start_vector(operator, start, generator, k=k)
    max_steps = min(num_steps, operator.size)
    recurrence: FullRecurrence | LightRecurrence
    if reorthogonalize == "full":
        kept = 2 * k if which == "both" else k
        recurrence = FullRecurrence(operator, first, max_steps, min(kept, max_steps), basis_dtype, basis_device)
    else:
        recurrence = LightRecurrence(operator, first)
    del first
    pairs, status = _iterate(recurrence, operator, k, max_steps, which, tolerance)
    ritz_vectors = None
    if vectors and isinstance(recurrence, FullRecurrence):
        ritz_vectors, rounding = recurrence.rotate(pairs.coefficients)
        pairs = pairs.with_vector_rounding(rounding)
    return LanczosResult(
        ritz_values=pairs.values,
        residuals=pairs.residuals,
        ritz_vectors=ritz_vectors,
        status=status,
        num_matvecs=recurrence.num_matvecs,
        cost=gradient_evaluations(operator, recurrence.num_matvecs) - cost_before,
        reason=_reason(status, pairs, recurrence.num_matvecs, tolerance),
        alphas=recurrence.alphas,
        betas=recurrence.betas,
    )


def start_vector(
    operator: LinearOperator,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
    *,
    k: int = 1,
) -> Tensor:
    """Unit start vector in the operator's dtype and on its device.

    ``start`` is explained at :func:`lanczos`; its first ``k`` rows have full weight.

    Raises:
        ValueError: ``start`` has the wrong shape, is zero or is not finite.
    """
    if start is None:
        return _unit(_random(operator, generator))
    if start.ndim not in (1, 2) or start.shape[-1] != operator.size or start.shape[0] == 0:
        raise ValueError(f"start must have shape ({operator.size},) or (j, {operator.size}), got {tuple(start.shape)}")
    vector = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
    for i, row in enumerate(start.reshape(-1, operator.size)):  # no cast copy of all rows at once
        vector.add_(row.to(vector), alpha=1.0 if i < k else UNWANTED)
    norm = float(torch.linalg.vector_norm(vector))
    if not math.isfinite(norm):
        raise ValueError("start must be finite, got nan or inf; leave it out for a random start")
    if norm == 0.0:
        raise ValueError("start must not be zero; leave it out for a random start")
    vector.div_(norm)
    if start.ndim == 2:
        vector.add_(_random(operator, generator), alpha=REFRESH / math.sqrt(operator.size))
    return _unit(vector)


def _random(operator: LinearOperator, generator: torch.Generator | None) -> Tensor:
    return random_vector(operator.size, generator=generator, device=operator.device, dtype=operator.dtype)


def _unit(vector: Tensor) -> Tensor:
    return vector.div_(torch.linalg.vector_norm(vector))


def _iterate(
    recurrence: FullRecurrence | LightRecurrence,
    operator: LinearOperator,
    k: int,
    max_steps: int,
    which: Which,
    tolerance: float | None,
) -> tuple[RitzPairs, LanczosStatus]:
    distinct = isinstance(recurrence, LightRecurrence)
    for step in range(1, max_steps + 1):
        if not recurrence.advance():
            return ritz_pairs(recurrence.projection, k, which, distinct=distinct), LanczosStatus.NONFINITE
        # Without reorthogonalisation ``size`` steps need not span the whole space.
        if recurrence.exhausted or (step == operator.size and not distinct):
            return ritz_pairs(recurrence.projection, k, which, distinct=distinct), LanczosStatus.INVARIANT
        wanted = 2 * k if which == "both" else k
        if tolerance is not None and step >= wanted:
            pairs = ritz_pairs(recurrence.projection, k, which, distinct=distinct)
            if len(pairs.values) >= wanted and pairs.converged(tolerance):
                return pairs, LanczosStatus.CONVERGED
    return ritz_pairs(recurrence.projection, k, which, distinct=distinct), LanczosStatus.MAX_STEPS


def _check(k: int, num_steps: int, which: str, tolerance: float | None, reorthogonalize: str, vectors: bool) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if which not in ("largest", "smallest", "both"):
        raise ValueError(f'which must be "largest", "smallest" or "both", got {which!r}')
    if tolerance is not None and not 0.0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be positive and finite, or None to run every step, got {tolerance}")
    if reorthogonalize not in ("full", "none"):
        raise ValueError(f'reorthogonalize must be "full" or "none", got {reorthogonalize!r}')
    if vectors and reorthogonalize == "none":
        raise ValueError('vectors=True needs the basis, which reorthogonalize="none" does not keep; use "full"')


def _reason(status: LanczosStatus, pairs: RitzPairs, num_matvecs: int, tolerance: float | None) -> str:
    if not len(pairs.values):
        return f"{status.value} ({num_matvecs} products)"
    worst = float((pairs.residuals / pairs.values.abs().clamp(min=1e-300)).max())
    wanted = "no tolerance given" if tolerance is None else f"tolerance {tolerance:.2g}"
    return f"{status.value} ({num_matvecs} products, relative residual {worst:.2g}, {wanted})"
