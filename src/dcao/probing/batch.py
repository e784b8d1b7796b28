"""A batch's loss, by itself or from a closure: what trains, and what a probe evaluates again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dcao.gradients import UnreachedError
from dcao.isolation import RngState, capture_rng, keeping_autocast, leave_no_trace
from dcao.operators.base import LinearOperator, LossFn, evaluate_loss
from dcao.operators.differentiation import Differentiation, twice_if_refused
from dcao.operators.finite_difference import DifferenceKind, FiniteDifferenceOperator
from dcao.operators.hvp import HvpKind, make_hessian
from dcao.probing.ranks import mean_over_ranks

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Closure = Callable[[], Any]
"""torch's contract: evaluates the loss, calls ``backward``, returns the loss."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch's loss, which can be evaluated again at other weights with the same random numbers.

    Attributes:
        loss_fn: Returns the loss with its graph. Exactly one of ``loss_fn`` and ``closure`` is given.
        closure: Returns the loss after calling ``backward``.
        weight: Its size, by which several batches are weighted.
        rng_state: Random streams as they were before the batch was first evaluated; None if nobody kept them.
        gradient: Gradient at the present weights if it is known already, in the order of the probe's parameters.
        loss: Loss at the present weights if it is known already, a number or a tensor without its graph.
        is_training: Whether this is the batch of the training step, whose backward pass has filled ``.grad``.
        group: Ranks whose batches make up this one: gradients are their mean.
        differentiation: How a ``loss_fn`` is differentiated; one for a run remembers what torch has refused.
        evaluations: Gradient evaluations that it has cost to know the gradient, beyond the training step.
    """

    loss_fn: LossFn | None = None
    closure: Closure | None = None
    weight: float = 1.0
    rng_state: RngState | None = None
    gradient: list[Tensor] | None = None
    loss: Any = None
    is_training: bool = False
    group: ProcessGroup | None = None
    differentiation: Differentiation = field(default_factory=Differentiation)
    evaluations: float = 0.0

    def loss_value(self) -> float | None:
        """The loss as a number; None if it is not known. A loss on an accelerator is waited for."""
        return None if self.loss is None else float(self.loss)

    def keeping_autocast(self) -> Batch:
        """The same batch, which will be evaluated under the present autocast state whenever that is."""
        if self.loss_fn is not None:
            return replace(self, loss_fn=keeping_autocast(self.loss_fn))
        assert self.closure is not None
        return replace(self, closure=keeping_autocast(self.closure))

    def with_gradient(self, params: Sequence[Tensor], modules: Sequence[nn.Module]) -> Batch:
        """The same batch with loss and gradient; those of the training batch are there, others are evaluated."""
        if self.is_training:
            rng_state = capture_rng(params) if self.rng_state is None else self.rng_state
            return replace(self, rng_state=rng_state, gradient=gradients_left(params), loss=self.loss_value())
        return self.evaluated_anew(params, modules)

    def evaluated_anew(self, params: Sequence[Tensor], modules: Sequence[nn.Module]) -> Batch:
        """The same batch with loss and gradient from one more evaluation."""

        def evaluate() -> tuple[float, list[Tensor]]:
            with leave_no_trace(params, modules=modules, rng_state=self.rng_state):
                return self._evaluate(params)

        loss, gradient = twice_if_refused(evaluate)
        if self.loss_fn is not None and not self.is_training and not self.differentiation.has_reached:
            raise UnreachedError
        return replace(self, loss=loss, gradient=gradient, evaluations=self.evaluations + 1.0)

    def hessian_operator(
        self, params: Sequence[Tensor], modules: Sequence[nn.Module], *, hvp: HvpKind, step_length: float | None
    ) -> LinearOperator:
        """The Hessian of this batch's loss; of a closure, by finite differences whatever ``hvp`` says."""
        if self.loss_fn is not None:
            return make_hessian(
                self.loss_fn, params, hvp=hvp, step_length=step_length, modules=modules, rng_state=self.rng_state
            )
        kind: DifferenceKind = "forward" if hvp == "forward" else "central"
        return self.difference_operator(params, modules, kind=kind, step_length=step_length)

    def difference_operator(
        self,
        params: Sequence[Tensor],
        modules: Sequence[nn.Module],
        *,
        kind: DifferenceKind,
        step_length: float | None,
        base_gradient: Tensor | None = None,
    ) -> FiniteDifferenceOperator:
        """The Hessian of this batch's loss by differences of its gradient."""
        return FiniteDifferenceOperator(
            None,
            params,
            gradient_fn=lambda: self._evaluate(params)[1],
            kind=kind,
            step_length=step_length,
            base_gradient=base_gradient,
            modules=modules,
            rng_state=self.rng_state,
        )

    def _evaluate(self, params: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
        if self.loss_fn is not None:
            loss = evaluate_loss(self.loss_fn)
            value, gradient = float(loss.detach()), self.differentiation.gradient(loss, params)
        else:
            assert self.closure is not None
            value = closure_loss(self.closure())
            gradient = closure_gradient(params)
        if self.group is not None:
            gradient = [mean_over_ranks(grad, self.group) for grad in gradient]
        return value, gradient


def evaluate_and_backward(loss_fn: LossFn) -> Tensor:
    """The loss of a training step, after its backward pass has filled ``.grad``."""
    with torch.enable_grad():
        loss = evaluate_loss(loss_fn)
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if "a second time" in str(error):
                raise ValueError(
                    "loss_fn must not call backward(), which minimize does itself: return the loss alone, "
                    "or pass a function that calls backward to step(closure)"
                ) from error
            raise
    return loss


def closure_gradient(params: Sequence[Tensor]) -> list[Tensor]:
    """What a closure left in ``.grad``; zero for parameters that it does not use."""
    require_gradient(params)
    return gradients_left(params)


def gradients_left(params: Sequence[Tensor]) -> list[Tensor]:
    """What a backward pass has left in ``.grad``; zero for parameters that it did not reach."""
    return [torch.zeros_like(p) if p.grad is None else p.grad.detach() for p in params]


def require_gradient(params: Sequence[Tensor]) -> None:
    """Refuse a closure that has left no gradient at all."""
    if all(p.grad is None for p in params):
        raise ValueError(
            "closure must call backward() on the loss, but left every gradient empty; "
            "for a function that only returns the loss, use optimizer.minimize(loss_fn)"
        )


def closure_loss(loss: Any) -> float:
    """What a closure returned as a number; nan if it returned nothing."""
    return float(loss.detach() if isinstance(loss, Tensor) else loss) if loss is not None else float("nan")
