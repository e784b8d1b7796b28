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
from dcao.spectra.starts import random_direction, start_vector
from dcao.uncompiled import uncompiled
from dcao.vectors import DEFAULT_SEED, seeded

# Steps for which the wanted pairs have to stay converged, if the start was random. A start that happens to hold little
# of the top eigenvector first converges to the second one, and only then sees the top. With a pair of eigenvalues 9 %
# apart and a tolerance of 1e-2, 2 of 150 starts ended 9 % low without such steps, 1 with one, and none with two.
NUM_CONFIRMING = 2


class LanczosStatus(enum.Enum):
    """How a Lanczos run ended, and what that shows.

    - ``CONVERGED``: some eigenvalue lies within each residual. From a random start it stayed so for two more steps,
      which finds almost every larger eigenvalue; it is no proof that there is none. Equal or close eigenvalues may
      count as one.
    - ``MAX_STEPS``: the same, with residuals that are larger than was asked for.
    - ``INVARIANT``: the values are eigenvalues. ``num_starts`` above 1: the space was exhausted, and fresh random
      directions outside of it found no wanted value beyond these; what equal eigenvalues they met is listed as often.
      With one start that does not span all dimensions, equal eigenvalues count as one.
    - ``NOISY``: the products do not fit together as those of a symmetric matrix do, as with finite differences across
      kinks or in low precision. The values show the size of the curvature at best, and the residuals bound nothing.
    - ``NONFINITE``: a product had nan or inf; the values are those of the steps before.
    """

    CONVERGED = "every wanted pair has a residual below the tolerance"
    MAX_STEPS = "step budget spent before the wanted pairs met the tolerance"
    INVARIANT = "Krylov space exhausted: the Ritz values are eigenvalues, to within their residuals"
    NOISY = "products contradict each other by more than the tolerance, so these need not be eigenvalues"
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
        num_starts: Start vectors; more than one where the Krylov space of the first was exhausted.
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
    num_starts: int
    cost: float
    reason: str
    alphas: Tensor
    betas: Tensor


@without_autocast()
@uncompiled
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

    One Krylov space sees one copy of a multiple eigenvalue. Where it is exhausted, a fresh random direction outside of
    it sees the next copy, until one brings nothing new: the three largest of ``2 * I`` are ``[2., 2., 2.]``. Where it
    is not, because the tolerance or ``num_steps`` ends the run before, equal and close eigenvalues may count as one.

    Args:
        operator: Symmetric operator.
        k: Number of pairs wanted (fewer come back where the Krylov space is smaller).
        num_steps: Largest dimension of the Krylov space; default ``5 * (k + 1)``. From a random start ten steps bring
            the top eigenvalue of a network's Hessian to 5 % in 94 of 100 runs or more, and twenty in nearly all
            (``docs/theory/curvature-estimation.md``); each further pair takes five more.
        which: ``"largest"``, ``"smallest"``, or ``"both"`` (``k`` of each end).
        start: A start vector ``(size,)``, used as it is and alone. Or previous Ritz vectors ``(j, size)``: the start is
            then their normalised sum (the first ``k`` with weight 1, others 0.1) plus 10 % of a random direction, in
            which an eigenvector that has newly grown is found. Default: random.
        tolerance: Stop when each wanted pair has ``residual <= tolerance * |ritz value|``, from a random start for
            three steps in a row. Default: make all ``num_steps`` steps.
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
    max_steps = min(num_steps, operator.layout.total(operator.size))
    recurrence: FullRecurrence | LightRecurrence
    if reorthogonalize == "full":
        kept = 2 * k if which == "both" else k
        recurrence = FullRecurrence(operator, first, max_steps, min(kept, max_steps), basis_dtype, basis_device)
    else:
        recurrence = LightRecurrence(operator, first)
    del first
    run = _Run(recurrence, operator, k, which, tolerance, generator or seeded(DEFAULT_SEED + 1))
    may_start_again = start is None or start.ndim == 2
    pairs, status = run.iterate(max_steps, NUM_CONFIRMING if start is None else 0, may_start_again=may_start_again)
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
        num_starts=run.num_starts,
        cost=gradient_evaluations(operator, recurrence.num_matvecs) - cost_before,
        reason=_reason(status, pairs, recurrence.num_matvecs, run.num_starts, tolerance),
        alphas=recurrence.alphas,
        betas=recurrence.betas,
    )


class _Run:
    """Steps of a recurrence until the wanted pairs are there."""

    def __init__(
        self,
        recurrence: FullRecurrence | LightRecurrence,
        operator: LinearOperator,
        k: int,
        which: Which,
        tolerance: float | None,
        generator: torch.Generator,
    ) -> None:
        self.recurrence, self.operator, self.generator = recurrence, operator, generator
        self.k, self.which, self.tolerance = k, which, tolerance
        self.num_starts = 1

    def iterate(self, max_steps: int, num_confirming: int, *, may_start_again: bool) -> tuple[RitzPairs, LanczosStatus]:
        """Advance; returns the wanted pairs and how the run ended."""
        wanted = 2 * self.k if self.which == "both" else self.k
        is_light, num_settled, last = isinstance(self.recurrence, LightRecurrence), 0, None
        size = self.operator.layout.total(self.operator.size)
        for step in range(1, max_steps + 1):
            if not self.recurrence.advance():
                return self._pairs(), LanczosStatus.NONFINITE
            if self.recurrence.exhausted or (step == size and not is_light):
                pairs = self._pairs()
                is_last = step == max_steps or not may_start_again
                if isinstance(self.recurrence, LightRecurrence) or is_last or _are_same(pairs, last, wanted):
                    return pairs, self._honest(LanczosStatus.INVARIANT, pairs)
                last, num_settled = pairs, 0
                self.recurrence.start_again(random_direction(self.operator, self.generator))
                self.num_starts += 1
            elif self.tolerance is not None and step >= wanted:
                pairs = self._pairs()
                is_settled = len(pairs.values) >= wanted and pairs.converged(self.tolerance)
                num_settled = num_settled + 1 if is_settled else 0
                if num_settled > num_confirming or (is_settled and step == max_steps):
                    return pairs, LanczosStatus.CONVERGED
        pairs = self._pairs()
        return pairs, self._honest(LanczosStatus.MAX_STEPS, pairs)

    def _pairs(self) -> RitzPairs:
        is_light = isinstance(self.recurrence, LightRecurrence)
        return ritz_pairs(self.recurrence.projection, self.k, self.which, distinct=is_light)

    def _honest(self, status: LanczosStatus, pairs: RitzPairs) -> LanczosStatus:
        """``NOISY`` if the products contradict each other so much that ``status`` would say more than was shown."""
        if status is LanczosStatus.INVARIANT:
            return status if pairs.are_eigenvalues(self.tolerance) else LanczosStatus.NOISY
        is_noisy = self.tolerance is not None and pairs.contradict(self.tolerance)
        return LanczosStatus.NOISY if is_noisy else status


def _are_same(pairs: RitzPairs, last: RitzPairs | None, wanted: int) -> bool:
    """Whether the last fresh direction has changed none of the wanted values, beyond their own accuracy."""
    if last is None or not len(pairs.values) == len(last.values) == wanted:
        return False
    return bool(((pairs.values - last.values).abs() <= pairs.residuals + last.residuals).all())


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


def _reason(status: LanczosStatus, pairs: RitzPairs, num_matvecs: int, num_starts: int, tolerance: float | None) -> str:
    if not len(pairs.values):
        return f"{status.value} ({num_matvecs} products)"
    worst = float((pairs.residuals / pairs.values.abs().clamp(min=1e-300)).max())
    wanted = "no tolerance given" if tolerance is None else f"tolerance {tolerance:.2g}"
    shown = f"{num_matvecs} products, relative residual {worst:.2g}, {wanted}"
    if num_starts > 1:
        shown += f", {num_starts} start vectors"
    if status is LanczosStatus.CONVERGED:
        shown += ", equal or close eigenvalues may count as one"
    elif status is LanczosStatus.INVARIANT and num_starts == 1:
        shown += ", equal eigenvalues count as one"
    return f"{status.value} ({shown})"
