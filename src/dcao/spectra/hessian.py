"""The extreme eigenvalues of a loss Hessian in one call."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dcao.operators.base import LossFn
from dcao.operators.finite_difference import FiniteDifferenceOperator
from dcao.operators.hessian import HessianOperator
from dcao.operators.hvp import AutoHessianOperator, HvpKind, make_hessian
from dcao.spectra.lanczos import LanczosResult, LanczosStatus, lanczos
from dcao.spectra.ritz import Which
from dcao.telling.notices import warn
from dcao.uncompiled import uncompiled

ROUNDING = 3e-4
"""Residual, over the largest value, that the rounding of a whole run in float32 explains: the root of its epsilon."""


@dataclass(frozen=True, kw_only=True)
class HessianSpectrum(LanczosResult):
    """A :class:`dcao.spectra.lanczos.LanczosResult` that also says how its products were made.

    Attributes:
        hvp: How products with the Hessian were made: ``"exact"``, ``"central"`` or ``"forward"``; ``reason`` has why.
    """

    hvp: str


@uncompiled
def hessian_spectrum(
    loss_fn: LossFn,
    params: Iterable[Tensor],
    k: int = 10,
    *,
    which: Which = "largest",
    tolerance: float | None = 1e-3,
    num_steps: int | None = None,
    hvp: HvpKind = "auto",
    step_length: float | None = None,
    vectors: bool = False,
    basis_dtype: torch.dtype | None = None,
    basis_device: torch.device | str | None = None,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> HessianSpectrum:
    """The ``k`` extreme eigenvalues of the loss Hessian, with bounds. Leaves no trace on the model.

    Finite differences are made once more along each Ritz vector, with twice the step length. What differs is counted
    into its residual, and if that then exceeds the tolerance, the status is ``NOISY``: across the kinks of a ReLU
    network a difference is no product with one matrix.

    Args:
        loss_fn: Returns the scalar loss; never calls ``backward``.
        params: Parameters to differentiate by; those that require grad are used.
        k: Number of pairs.
        which: ``"largest"``, ``"smallest"`` or ``"both"`` ends.
        tolerance: Relative residual at which to stop. The relative error of the value is about the square of its
            residual over the relative gap to the next eigenvalue.
        num_steps: Largest number of products; default ``10 * (k + 1)``, enough for 1e-3 on every network of our tests.
        hvp: How to multiply by the Hessian (:func:`dcao.operators.make_hessian`).
        step_length: Length of finite differences; default :func:`dcao.operators.default_step_length`.
        vectors: Also return Ritz vectors.
        basis_dtype: As for :func:`dcao.spectra.lanczos.lanczos`, for models whose basis is too large.
        basis_device: As for :func:`dcao.spectra.lanczos.lanczos`.
        start: As for :func:`dcao.spectra.lanczos.lanczos`.
        generator: For the random start; default: seed 0.

    Raises:
        ValueError: An argument is wrong, or no parameter requires grad. What the numbers do is a status.

    Example:
        >>> w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> hessian_spectrum(lambda: (w**3).sum(), [w], k=2).ritz_values.round(decimals=4)
        tensor([18., 12.], dtype=torch.float64)
    """
    operator = make_hessian(loss_fn, params, hvp=hvp, step_length=step_length)
    result = lanczos(
        operator,
        k,
        num_steps=10 * (k + 1) if num_steps is None else num_steps,
        which=which,
        start=start,
        tolerance=tolerance,
        vectors=vectors or hvp != "exact",
        basis_dtype=basis_dtype,
        basis_device=basis_device,
        generator=generator,
    )
    if not isinstance(operator, HessianOperator) and operator.kind != "exact":
        result = _checked_at_another_length(operator, result, tolerance)
    ritz_vectors = result.ritz_vectors if vectors else None
    fields = {**result.__dict__, "ritz_vectors": ritz_vectors, "reason": f"{result.reason}; {operator.reason}"}
    return HessianSpectrum(**fields, hvp=operator.kind)


def _checked_at_another_length(
    operator: AutoHessianOperator | FiniteDifferenceOperator, result: LanczosResult, tolerance: float | None
) -> LanczosResult:
    """The result of finite differences with residuals that also hold for differences of another length."""
    differences = operator if isinstance(operator, FiniteDifferenceOperator) else operator.differences
    longer = differences.with_step_length(2.0 * differences.step_length)
    assert result.ritz_vectors is not None
    residuals = result.residuals.clone()
    for index, (vector, value) in enumerate(zip(result.ritz_vectors, result.ritz_values.tolist(), strict=True)):
        y = vector.to(device=operator.device, dtype=operator.dtype)
        rest = float(operator.layout.norm(longer.matvec(y).sub_(y, alpha=value)))
        residuals[index] = max(float(residuals[index]), rest) if math.isfinite(rest) else math.inf
    status, reason = result.status, result.reason
    if status in (LanczosStatus.CONVERGED, LanczosStatus.INVARIANT) and not _are_small(residuals, result, tolerance):
        status = LanczosStatus.NOISY
        worst = float((residuals / result.ritz_values.abs().clamp(min=1e-300)).max())
        reason = f"{status.value} (relative residual {worst:.2g} with twice the step length)"
    return replace(
        result,
        residuals=residuals,
        status=status,
        reason=reason,
        num_matvecs=result.num_matvecs + len(residuals),
        cost=result.cost + longer.gradient_evaluations,
    )


def _are_small(residuals: Tensor, result: LanczosResult, tolerance: float | None) -> bool:
    """Whether residuals are what the status of ``result`` says of them."""
    sizes = result.ritz_values.abs()
    rounding = ROUNDING * float(sizes.max())
    limits = (tolerance or 0.0) * sizes.clamp(min=rounding)
    return bool(
        (residuals <= (limits.clamp(min=rounding) if result.status is LanczosStatus.INVARIANT else limits)).all()
    )


@uncompiled
def sharpness(
    loss_fn: LossFn,
    params: Iterable[Tensor],
    *,
    tolerance: float = 1e-2,
    num_steps: int | None = None,
    hvp: HvpKind = "auto",
    step_length: float | None = None,
    generator: torch.Generator | None = None,
) -> float:
    """Largest eigenvalue of the loss Hessian (not the loss rise in a ball that SAM calls sharpness).

    Warns if ``num_steps`` products (default 40) did not bring the relative residual to ``tolerance``: the value may
    then be too small. It also warns if finite differences contradict each other, so that there need be no such
    eigenvalue. A loss with nan or inf gives ``nan`` and a warning. For bounds and costs use :func:`hessian_spectrum`,
    which also explains the arguments.

    Example:
        >>> w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> round(sharpness(lambda: (w**3).sum(), [w]), 3)
        18.0
    """
    result = hessian_spectrum(
        loss_fn,
        params,
        1,
        tolerance=tolerance,
        num_steps=40 if num_steps is None else num_steps,
        hvp=hvp,
        step_length=step_length,
        generator=generator,
    )
    if result.status not in (LanczosStatus.CONVERGED, LanczosStatus.INVARIANT):
        warn(f"sharpness is not reliable: {result.reason}")
    return float(result.ritz_values[0]) if len(result.ritz_values) else math.nan
