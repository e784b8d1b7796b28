"""What a probe evaluates: a batch's loss, by itself, from a closure, or drawn from a loader of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dcao.data_parallel import mean_over_ranks
from dcao.isolation import RngState, keeping_autocast, leave_no_trace, restore_rng, seeded_rng
from dcao.operators.base import LossFn, evaluate_loss
from dcao.operators.finite_difference import DifferenceKind, FiniteDifferenceOperator
from dcao.operators.hessian import HessianOperator
from dcao.operators.hvp import AutoHessianOperator, HvpKind, make_hessian

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

HessianLike = HessianOperator | AutoHessianOperator | FiniteDifferenceOperator
Closure = Callable[[], Any]
"""torch's contract: evaluates the loss, calls ``backward``, returns the loss."""


@dataclass(frozen=True, kw_only=True)
class ProbeBatch:
    """One batch's loss, which can be evaluated again at other weights with the same random numbers.

    Attributes:
        loss_fn: Returns the loss with its graph. Exactly one of ``loss_fn`` and ``closure`` is given.
        closure: Returns the loss after calling ``backward``.
        weight: Weight among several batches: its size.
        rng_state: Random streams as they were before the batch was first evaluated.
        gradient: Gradient at the present weights if it is known already, in the order of the probe's parameters.
        loss: Loss at the present weights if it is known already.
        group: Ranks whose batches make up this one: gradients are their mean.
    """

    loss_fn: LossFn | None = None
    closure: Closure | None = None
    weight: float = 1.0
    rng_state: RngState
    gradient: list[Tensor] | None = None
    loss: float | None = None
    group: ProcessGroup | None = None

    def keeping_autocast(self) -> ProbeBatch:
        """The same batch, evaluated under the autocast state of now whenever that is."""
        if self.loss_fn is not None:
            return replace(self, loss_fn=keeping_autocast(self.loss_fn))
        assert self.closure is not None
        return replace(self, closure=keeping_autocast(self.closure))

    def with_gradient(self, params: Sequence[Tensor], modules: Sequence[nn.Module]) -> ProbeBatch:
        """The same batch with its loss and gradient known."""
        if self.gradient is not None:
            return self
        with leave_no_trace(params, modules=modules, rng_state=self.rng_state):
            loss, gradient = self._evaluate(params)
        return replace(self, loss=loss, gradient=gradient)

    def hessian_operator(
        self, params: Sequence[Tensor], modules: Sequence[nn.Module], *, hvp: HvpKind, step_length: float | None
    ) -> HessianLike:
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
            value, gradient = float(loss.detach()), loss_gradient(loss, params)
        else:
            assert self.closure is not None
            value = loss_value(self.closure())
            gradient = closure_gradient(params)
        return value, [mean_over_ranks(grad, self.group) for grad in gradient]


def loss_gradient(loss: Tensor, params: Sequence[Tensor]) -> list[Tensor]:
    """Gradient of ``loss``; zero for parameters that it does not use."""
    return list(torch.autograd.grad(loss, list(params), allow_unused=True, materialize_grads=True))


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


def loss_value(loss: Any) -> float:
    """A loss as a number; nan where the closure returned none."""
    return float(loss.detach() if isinstance(loss, Tensor) else loss) if loss is not None else float("nan")


class ProbeLoader:
    """Batches for probes drawn from a loader, in place of the training batch.

    A probe on independent batches measures the load by its definition (design of the measure: every pair of different
    batches) and costs two gradient evaluations a batch.

    Args:
        loader: Any re-iterable of batches, such as a DataLoader. It is started again when it ends.
        batch_loss: ``batch_loss(batch)`` returns the mean loss of a batch with its graph.
        num_batches: Batches a probe.
        batch_size: ``batch_size(batch)`` returns its size, which weights ragged batches; default: the length of the
            first tensor in the batch.
        seed: Shuffling of the loader draws from this seed, not from the training's random stream.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        batch_loss: Callable[[Any], Tensor],
        *,
        num_batches: int = 4,
        batch_size: Callable[[Any], float] | None = None,
        seed: int = 0,
    ) -> None:
        if num_batches < 1:
            raise ValueError(f"num_batches must be at least 1, got {num_batches}")
        if isinstance(loader, Iterator):
            raise TypeError("loader must be re-iterable, such as a DataLoader or a list, got a one-pass iterator")
        self.loader, self.batch_loss, self.num_batches, self.seed = loader, batch_loss, num_batches, seed
        self.batch_size = batch_size or first_length
        self._epoch, self._position = 0, 0
        self._iterator: Iterator[Any] | None = None

    def draw(self, rng_state: RngState) -> list[ProbeBatch]:
        """The next batches; call it inside :func:`leave_no_trace`."""
        drawn = [self._next(rng_state) for _ in range(self.num_batches)]
        batches = []
        for batch in drawn:
            batches.append(self._as_probe_batch(batch, rng_state))
            rng_state = _fresh_streams(rng_state)  # a dropout mask that batches share would count as signal
        return batches

    def state_dict(self) -> dict[str, int]:
        """Position in the loader."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go back to a position; the loader is read up to it at the next draw."""
        self._iterator, self._epoch, self._position = None, state["epoch"], state["position"]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_iterator": None}

    def _next(self, rng_state: RngState) -> Any:
        for _ in range(2):
            if self._iterator is None:
                restore_rng(seeded_rng(self.seed + self._epoch, like=rng_state))
                self._iterator = iter(self.loader)
                for _ in range(self._position):
                    next(self._iterator, None)
            for batch in self._iterator:
                self._position += 1
                return batch
            self._iterator, self._epoch, self._position = None, self._epoch + 1, 0
        raise ValueError("the probe's loader gave no batch; it must hold at least one")

    def _as_probe_batch(self, batch: Any, rng_state: RngState) -> ProbeBatch:
        return ProbeBatch(
            loss_fn=lambda: self.batch_loss(batch), weight=float(self.batch_size(batch)), rng_state=rng_state
        )


def _fresh_streams(state: RngState) -> RngState:
    """Streams independent of ``state``'s and determined by it."""
    generator = torch.Generator("cpu")
    generator.set_state(state.cpu)
    return seeded_rng(int(torch.randint(2**62, (), generator=generator, device="cpu")), like=state)


def first_length(batch: Any) -> int:
    """Length of the first tensor in a batch (a tensor, or a nested sequence or mapping of them)."""
    if isinstance(batch, Tensor):
        return len(batch)
    parts = batch.values() if isinstance(batch, dict) else batch
    if isinstance(parts, str) or not isinstance(parts, Iterable):
        raise TypeError(f"cannot tell the size of a batch of type {type(batch).__name__}; pass batch_size=")
    return first_length(next(iter(parts)))
