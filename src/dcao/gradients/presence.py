"""Whether the coming step has a gradient at all, and what it means if it has none.

A step without any gradient does nothing, as in torch: all parameters are frozen for a phase, a trainer has skipped a
batch. Only where no step ever had one, and the loss could not give one, it is the optimizer of another model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from dcao.blocks import parts_of
from dcao.layout import layout_of
from dcao.operators.graph import graph_nodes
from dcao.shards import gradients_of
from dcao.telling.notices import LONG, Notices
from dcao.vectors import params_of

NO_BACKWARD = (
    "closure must call backward() on the loss, but left every gradient empty; for a function that only returns the "
    "loss, use optimizer.minimize(loss_fn)"
)


class UnreachedError(ValueError):
    """A loss does not depend on any parameter of the optimizer."""

    def __init__(self) -> None:
        super().__init__(
            "none of the optimizer's parameters gets a gradient from this loss: is it the optimizer of another model, "
            "or of the model before it was copied or its parameters were replaced? Build the optimizer from the "
            "parameters that the loss is computed from"
        )


class Gradients:
    """The gradients in an optimizer's parameters.

    Args:
        optimizer: The base optimizer, live.
        notices: Tells the caller if nothing has a gradient for long.

    Attributes:
        were_seen: Whether a step of this run has had one.
    """

    def __init__(self, optimizer: Optimizer, notices: Notices) -> None:
        self.optimizer, self.notices = optimizer, notices
        self.were_seen = False
        self._num_without = 0

    def are_there(self) -> bool:
        """Whether any parameter has a gradient now."""
        return any(p.grad is not None for p in params_of(self.optimizer))

    def begin_step(self) -> bool:
        """The same, for a step that begins."""
        there = self.are_there()
        self.were_seen = self.were_seen or there
        self._num_without = 0 if there else self._num_without + 1
        if self._num_without == LONG:
            self._tell()
        return there

    def check_loss(self, loss: Any) -> None:
        """Refuse a loss that cannot train these parameters, after its backward pass."""
        trained = self._may_miss_a_gradient()
        if trained and not reaches(loss, trained):
            raise UnreachedError

    def check_closure(self, loss: Any) -> None:
        """Refuse a closure that left no gradient; ``loss`` is what it returned, None if it has skipped the batch."""
        trained = self._may_miss_a_gradient()
        if not trained or loss is None:
            return
        if isinstance(loss, Tensor) and loss.requires_grad and not reaches(loss, trained):
            raise UnreachedError
        raise ValueError(
            f"{NO_BACKWARD}. If it does call backward(), this is the optimizer of another model. To skip a batch, "
            "return None"
        )

    def _may_miss_a_gradient(self) -> list[Tensor]:
        """The parameters that should have had a gradient by now; none if a step has had one, or one is there."""
        if self.were_seen or self.are_there():
            return []
        return [p for p in params_of(self.optimizer) if p.requires_grad]

    def _tell(self) -> None:
        if any(p.requires_grad for p in params_of(self.optimizer)):
            cause = "every .grad was empty: the closure returned before backward(), or the loss did not depend on them"
            fix = "check that the batches are not all skipped, and that backward() runs between zero_grad() and step()"
        else:
            cause, fix = "none of them requires grad", "thaw them with requires_grad_(True), or go on if that is meant"
        self.notices.tell(
            "no gradient",
            f"no parameter of the optimizer has had a gradient for {LONG} steps: {cause}. Such steps change nothing, "
            f"and the next one with a gradient is probed. Fix: {fix}",
        )


def reaches(loss: Any, params: Sequence[Tensor]) -> bool:
    """Whether the graph of ``loss`` ends at one of ``params``; also after its backward pass.

    Example:
        >>> import torch
        >>> used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        >>> reaches(used.square().sum(), [used]), reaches(used.square().sum(), [unused])
        (True, False)
    """
    if not isinstance(loss, Tensor):
        return False
    wanted = {id(p) for p in params}
    return id(loss) in wanted or any(id(getattr(node, "variable", None)) in wanted for node in graph_nodes(loss))


def any_is_not_zero(params: Iterable[Tensor]) -> bool:
    """Whether some entry of some gradient is not zero, or not a number.

    Example:
        >>> import torch
        >>> w = torch.ones(2, requires_grad=True)
        >>> (0.0 * w).sum().backward()
        >>> any_is_not_zero([w])
        False
    """
    gradients = gradients_of(params)
    is_any = any(bool(part.any()) for (part,) in parts_of(gradients))  # in parts: mostly the first has one
    return layout_of(gradients).on_any_rank(is_any)
