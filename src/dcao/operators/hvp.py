"""Chooses how to multiply by a Hessian: exactly if torch can, by finite differences otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from torch import Tensor, nn

from dcao.isolation import RngState, capture_rng, model_modules
from dcao.operators.base import LinearOperator, LossFn, Unsupported
from dcao.operators.finite_difference import FiniteDifferenceOperator
from dcao.operators.hessian import HessianOperator
from dcao.vectors import trainable

HvpKind = Literal["auto", "exact", "central", "forward"]


def make_hessian(
    loss_fn: LossFn,
    params: Iterable[Tensor],
    *,
    hvp: HvpKind = "auto",
    step_length: float | None = None,
    modules: Sequence[nn.Module] | None = None,
    rng_state: RngState | None = None,
) -> HessianOperator | FiniteDifferenceOperator | AutoHessianOperator:
    """Hessian operator of the chosen kind; its ``kind`` and ``reason`` say how it makes products, and why.

    Args:
        loss_fn: Returns the scalar loss.
        params: Parameters to differentiate by; those that require grad are used.
        hvp: ``"exact"`` (double backward), ``"central"`` or ``"forward"`` differences, or ``"auto"``: exact if torch
            can differentiate this loss twice, else central differences.
        step_length: Length of the finite differences; default :func:`dcao.operators.default_step_length`.
        modules: As for :func:`dcao.isolation.leave_no_trace`.
        rng_state: Random streams from which the loss is evaluated; default: the present ones.

    Raises:
        ValueError: ``hvp`` is none of these, or no parameter requires grad.
        Unsupported: With ``"exact"``, as for :class:`dcao.operators.HessianOperator`.

    Example:
        >>> import torch
        >>> w = torch.ones(1, requires_grad=True)
        >>> make_hessian(lambda: (w**2).sum(), [w]).kind
        'exact'
    """
    params = trainable(params)
    rng_state = rng_state if rng_state is not None else capture_rng(params)
    modules = modules if modules is not None else model_modules(params)
    if hvp == "exact":
        return HessianOperator(loss_fn, params, modules=modules, rng_state=rng_state)
    if hvp in ("central", "forward"):
        return FiniteDifferenceOperator(
            loss_fn, params, kind=hvp, step_length=step_length, modules=modules, rng_state=rng_state
        )
    if hvp == "auto":
        return AutoHessianOperator(loss_fn, params, step_length=step_length, modules=modules, rng_state=rng_state)
    raise ValueError(f'hvp must be "auto", "exact", "central" or "forward", got {hvp!r}')


class AutoHessianOperator(LinearOperator):
    """Exact products until torch raises for one; central finite differences from then on.

    Torch raises only when the second derivative runs, so ``kind`` and ``reason`` are final after the first product.
    """

    def __init__(
        self,
        loss_fn: LossFn,
        params: Sequence[Tensor],
        *,
        step_length: float | None,
        modules: Sequence[nn.Module],
        rng_state: RngState,
    ) -> None:
        self._difference = FiniteDifferenceOperator(
            loss_fn, params, step_length=step_length, modules=modules, rng_state=rng_state
        )
        self._exact: HessianOperator | None = None
        self._spent = 0.0
        self.reason = "double backward"
        try:
            self._exact = HessianOperator(loss_fn, params, modules=modules, rng_state=rng_state)
        except Unsupported as error:
            self._fall_back(error)
        self.params = self._difference.params
        self.size = self._difference.size
        self.device = self._difference.device
        self.dtype = self._difference.dtype
        self.layout = self._difference.layout

    @property
    def differences(self) -> FiniteDifferenceOperator:
        """The finite differences that stand in for exact products."""
        return self._difference

    @property
    def gradient_evaluations(self) -> float:
        """Cost so far, including that of a failed attempt at an exact product."""
        exact = self._exact.gradient_evaluations if self._exact is not None else self._spent
        return exact + self._difference.gradient_evaluations

    @property
    def gradient(self) -> Tensor:
        """The gradient at the present parameters as one flat vector."""
        return self._exact.gradient if self._exact is not None else self._difference.gradient

    def matvec(self, vector: Tensor) -> Tensor:
        """The Hessian times ``vector``, a flat vector of length ``size``."""
        if self._exact is not None:
            try:
                return self._exact.matvec(vector)
            except Unsupported as error:
                self._fall_back(error)
        product = self._difference.matvec(vector)
        self.reason = f"{self._why_not_exact}; {self._difference.reason}"
        return product

    def close(self) -> None:
        """Free the graph of the exact products, which the next one builds again."""
        if self._exact is not None:
            self._exact.close()

    def _fall_back(self, error: Unsupported) -> None:
        if self._exact is not None:
            self._spent = self._exact.gradient_evaluations
        self._exact = None
        self.kind = self._difference.kind
        self._why_not_exact = str(error)
        self.reason = f"{error}; {self._difference.reason}"
