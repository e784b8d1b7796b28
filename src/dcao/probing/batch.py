"""A batch's loss, by itself or from a closure: what trains, and what a probe evaluates again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from dcao.blocks import Vector
from dcao.gradients.backward_watch import BackwardWatch
from dcao.gradients.presence import NO_BACKWARD, UnreachedError
from dcao.gradients.since_backward import SinceBackward
from dcao.gradients.step_scaling import StepScaling
from dcao.gradients.stepping import Stepping, how_it_steps
from dcao.isolation import RngState, capture_rng, keeping_autocast, leave_no_trace
from dcao.models import Model
from dcao.operators.base import LinearOperator, LossFn, evaluate_loss
from dcao.operators.batched import BatchedOperator
from dcao.operators.differentiation import Differentiation, again_if_refused
from dcao.operators.finite_difference import DifferenceKind, FiniteDifferenceOperator
from dcao.operators.hvp import HvpKind, make_hessian
from dcao.operators.precision import half_precision_of
from dcao.probing.ranks import Ranks, mean_loss, mean_over_ranks, together
from dcao.shards import placed_like, whole_value

Closure = Callable[[], Any]
"""torch's contract: evaluates the loss, calls ``backward``, returns the loss."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch's loss, which can be evaluated again at other weights with the same random numbers.

    Attributes:
        loss_fn: Returns the loss with its graph. Exactly one of ``loss_fn`` and ``closure`` is given.
        closure: Returns the loss after calling ``backward``.
        parts: The micro-batches whose mean loss the closure evaluates, if it is ours; empty if it is the caller's.
        weight: Its size, by which several batches are weighted.
        rng_state: Random streams as they were before the batch was first evaluated; None if nobody kept them.
        gradient: Gradient at the present weights if it is known already, in the order of the probe's parameters.
        loss: Loss at the present weights if it is known already, a number or a tensor without its graph.
        precision: Half-precision dtype in which the loss is computed; None: in none that is known.
        is_training: Whether this is the batch of the training step, whose backward pass has filled ``.grad``.
        is_coming: Whether the coming step is taken on it, by a loop that calls backward itself.
        clip_norm: Length to which the training batch's gradient is shortened before the step; None: it is not.
        ranks: Those whose batches make up this one: gradients are their mean.
        since_backward: What is known of the gradients of the training batch since its backward pass; None: nothing.
        scaling: What is going to happen to the gradient of a batch that the training step has not evaluated.
        stepping: The gradient that the optimizer steps with, where it is not that of the loss.
        differentiation: How a ``loss_fn`` is differentiated; one for a run remembers what torch has refused.
        evaluations: Gradient evaluations that it has cost to know the gradient, beyond the training step.
    """

    loss_fn: LossFn | None = None
    closure: Closure | None = None
    parts: Sequence[Batch] = ()
    weight: float = 1.0
    rng_state: RngState | None = None
    gradient: list[Tensor] | None = None
    loss: Any = None
    precision: torch.dtype | None = None
    is_training: bool = False
    is_coming: bool = False
    clip_norm: float | None = None
    ranks: Ranks | None = None
    differentiation: Differentiation = field(default_factory=Differentiation)
    since_backward: SinceBackward | None = None
    scaling: StepScaling | None = None
    stepping: Stepping | None = None
    evaluations: float = 0.0

    @property
    def taken(self) -> list[Tensor]:
        """The gradient that the optimizer steps with; empty if it is not known yet."""
        return self.stepping.gradient if self.stepping is not None else self.gradient or []

    @property
    def is_watched_in_vain(self) -> bool:
        """Whether a closure that is going to be probed has called no backward pass."""
        return self.closure is not None and self.rng_state is not None and self.since_backward is None

    def loss_value(self) -> float | None:
        """The loss as a number; None if it is not known. A loss on an accelerator is waited for."""
        return None if self.loss is None else float(whole_value(self.loss))

    def anew(self, start: Callable[[LossFn | Closure], RngState | None]) -> Batch:
        """The same batch, all of whose evaluations begin from now on, and from what ``start`` keeps."""
        function = self.loss_fn or self.closure
        assert function is not None
        return replace(self, is_training=False, rng_state=start(function))

    def keeping_autocast(self) -> Batch:
        """The same batch, which will be evaluated under the present autocast state whenever that is."""
        if self.loss_fn is not None:
            return replace(self, loss_fn=keeping_autocast(self.loss_fn))
        assert self.closure is not None
        parts = [part.keeping_autocast() for part in self.parts]
        return replace(self, closure=keeping_autocast(self.closure), parts=parts)

    def with_gradient(self, params: Sequence[Tensor], modules: Sequence[nn.Module]) -> Batch:
        """The same batch with loss and gradient; those of the training batch are there, others are evaluated."""
        if self.is_training:
            rng_state = capture_rng(params) if self.rng_state is None else self.rng_state
            known = replace(self, rng_state=rng_state, gradient=gradients_left(params), loss=self.loss_value())
            return known._with_stepping(params, modules)
        known = self.evaluated_anew(params, modules)
        return replace(known, stepping=None if self.scaling is None else self.scaling.stepping(known.gradient or []))

    def evaluated_anew(self, params: Sequence[Tensor], modules: Sequence[nn.Module]) -> Batch:
        """The same batch with loss and gradient from one more evaluation."""

        def evaluate() -> tuple[Any, list[Tensor]]:
            with leave_no_trace(params, modules=modules, rng_state=self.rng_state):
                return self._evaluate(params)

        loss, gradient = again_if_refused(evaluate)
        if self.loss_fn is not None and not self.is_training and not self.differentiation.has_reached:
            raise UnreachedError
        return replace(
            self,
            loss=closure_loss(loss),
            gradient=gradient,
            precision=half_precision_of(loss) or self.precision,
            evaluations=self.evaluations + 1.0,
        )

    def _with_stepping(self, params: Sequence[Tensor], modules: Sequence[nn.Module]) -> Batch:
        """The training batch with the gradient of its loss where another one is in ``.grad``."""
        if self.since_backward is None or self.since_backward.is_nothing():
            return self
        anew: list[Batch] = []

        def evaluate() -> list[Tensor]:
            anew.append(self.evaluated_anew(params, modules))
            return anew[0].gradient or []

        gradient, stepping = how_it_steps(self.taken, self.since_backward, evaluate)
        return replace(self, gradient=gradient, stepping=stepping, evaluations=float(len(anew)))

    def hessian_operator(
        self, params: Sequence[Tensor], modules: Sequence[nn.Module], *, hvp: HvpKind, step_length: float | None
    ) -> LinearOperator:
        """The Hessian of this batch's loss.

        Of a caller's closure, and by sharded parameters, it is one by finite differences whatever ``hvp`` says.
        """
        is_sharded = self.ranks is not None and not self.ranks.are_replicas
        if self.loss_fn is not None and not is_sharded:
            return make_hessian(
                self.loss_fn, params, hvp=hvp, step_length=step_length, modules=modules, rng_state=self.rng_state
            )
        if self.parts and not is_sharded:
            each = [part.hessian_operator(params, modules, hvp=hvp, step_length=step_length) for part in self.parts]
            return BatchedOperator(each, [1.0] * len(each))
        kind: DifferenceKind = "forward" if hvp == "forward" else "central"
        return self.difference_operator(params, modules, kind=kind, step_length=step_length)

    def difference_operator(
        self,
        params: Sequence[Tensor],
        modules: Sequence[nn.Module],
        *,
        kind: DifferenceKind,
        step_length: float | None,
        base_gradient: Vector | None = None,
        why_not_lifted: str = "",
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
            precision=self.precision,
            why_not_lifted=why_not_lifted,
        )

    def _evaluate(self, params: Sequence[Tensor]) -> tuple[Any, list[Tensor]]:
        if self.ranks is None:
            return self._evaluate_alone(params)
        if self.ranks.are_replicas:
            loss, gradient = together(lambda: self._evaluate_alone(params), self.ranks)
            return loss, [mean_over_ranks(grad, self.ranks) for grad in gradient]
        if self.loss_fn is None:
            return together(lambda: self._evaluate_closure(params), self.ranks)
        loss_fn, gathering = self.loss_fn, self.ranks.gathering
        loss = together(lambda: gathering.forward(lambda: evaluate_loss(loss_fn)), self.ranks)
        return loss, self._differentiated(loss, params)

    def _evaluate_alone(self, params: Sequence[Tensor]) -> tuple[Any, list[Tensor]]:
        if self.loss_fn is None:
            return self._evaluate_closure(params)
        loss = evaluate_loss(self.loss_fn)
        return loss, self._differentiated(loss, params)

    def _differentiated(self, loss: Tensor, params: Sequence[Tensor]) -> list[Tensor]:
        # What a training pass has left in .grad is unscaled, and is compared with what is evaluated here.
        return self.differentiation.gradient(loss, params, is_scaled=not self.is_training)

    def _evaluate_closure(self, params: Sequence[Tensor]) -> tuple[Any, list[Tensor]]:
        """Loss and gradient as the closure's backward passes leave it, before the closure changes it."""
        assert self.closure is not None
        since = self.since_backward
        if since is None or not since.closure_writes:
            return self.closure(), closure_gradient(params)
        with BackwardWatch(params, keep=True) as watch:
            loss = self.closure()
        return loss, closure_gradient(params) if watch.gradients is None else watch.gradients


def evaluate_and_backward(loss_fn: LossFn, *, weighed: Callable[[Tensor], Tensor] = lambda loss: loss) -> Tensor:
    """The loss of a training step, after the backward pass of what it is ``weighed`` to has filled ``.grad``."""
    with torch.enable_grad():
        loss = evaluate_loss(loss_fn)
        try:
            weighed(loss).backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if "a second time" in str(error):
                raise ValueError(
                    "loss_fn must not call backward(), which minimize does itself: return the loss alone, "
                    "or pass a function that calls backward to step(closure)"
                ) from error
            raise
    return loss


def closure_gradient(params: Sequence[Tensor]) -> list[Tensor]:
    """What a closure left in ``.grad``; zero for parameters that it does not use. Refused if that is nothing at all."""
    if all(p.grad is None for p in params):
        raise ValueError(NO_BACKWARD)
    return gradients_left(params)


def gradients_left(params: Sequence[Tensor]) -> list[Tensor]:
    """What a backward pass has left in ``.grad``; zero for parameters that it did not reach."""
    return [torch.zeros_like(p) if p.grad is None else placed_like(p.grad.detach(), p) for p in params]


def mean_loss_of(batch: Batch | None, model: Model) -> float | None:
    """The loss of a training batch, the mean over the ranks if there are several; None if it is not known."""
    if batch is None:
        return None
    own, ranks = batch.loss_value(), model.look()[1]
    if ranks is None:
        return own
    mean = mean_loss(own, ranks)  # all ranks take part, whether they know theirs or not
    return None if own is None else mean


def closure_loss(loss: Any) -> float:
    """What a loss function or closure returned as a number; nan if it returned nothing."""
    return float(whole_value(loss.detach() if isinstance(loss, Tensor) else loss)) if loss is not None else math.nan
