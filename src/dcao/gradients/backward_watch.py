"""What the backward passes of a closure do to ``.grad``, seen from hooks on the parameters while the closure runs."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dcao.gradients.gradient_mark import GradientMark
from dcao.layout import layout_of
from dcao.shards import holds_back_gradients, is_shard, local_part, placed_like
from dcao.vectors import entries_of


class BackwardWatch:
    """Context around a closure: tells what its backward passes left in ``.grad`` from what the closure did to it later.

    The gradients are looked at when a backward pass has ended, after DistributedDataParallel has averaged them. Hooks
    on leaves do not make ``torch.compile`` compile again.

    Args:
        params: Parameters whose ``.grad`` is watched.
        modules: Modules of the model, of which those of ``fully_shard`` may hold gradients back.
        keep: Keep a copy of the gradients, as the last backward pass left them.

    Attributes:
        mark: The gradients as the last backward pass left them; None if there was none.
        num_passes: Backward passes that have reached the parameters.
        gradients: The copies, in the order of ``params``; None without ``keep`` or without a backward pass.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> with BackwardWatch([w], keep=True) as watch:
        ...     w.square().sum().backward()
        ...     w.grad.clamp_(max=1.0)
        tensor([1., 1.])
        >>> watch.mark.is_unchanged(), watch.gradients, watch.has_leftovers()
        (False, [tensor([6., 8.])], False)
    """

    def __init__(self, params: Sequence[Tensor], *, modules: Sequence[nn.Module] = (), keep: bool = False) -> None:
        self.params, self.modules, self.keep = params, modules, keep
        self.mark: GradientMark | None = None
        self.gradients: list[Tensor] | None = None
        self.num_passes = 0
        self._handles: list[Any] = []
        self._first_look: dict[int, Tensor | None] = {}  # for each parameter, whether .grad was other than zero
        self._at_entry: dict[int, tuple[Tensor, tuple[int, int], Tensor]] = {}  # of shards: .grad, versions, the same
        self._is_queued = self._holds_back = False

    def __enter__(self) -> BackwardWatch:
        self._holds_back = holds_back_gradients(self.modules)
        for p in self.params:
            if is_lazy(p):  # it becomes a parameter in the forward pass, and takes hooks from then on
                continue
            if is_shard(p) and p.grad is not None:
                self._at_entry[id(p)] = p.grad, _versions(p.grad), entries_of(p.grad).any()
            self._handles += [
                p.register_hook(self._before_accumulation(p)),  # type: ignore[no-untyped-call]
                p.register_post_accumulate_grad_hook(self._after_accumulation),  # type: ignore[no-untyped-call]
            ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def has_leftovers(self) -> bool:
        """Whether the first backward pass was added to gradients that were there already, and were not zero."""
        found = [flag for flag in self._first_look.values() if flag is not None]
        return layout_of(self.params).on_any_rank(self._holds_back or any(bool(flag) for flag in found))

    def _before_accumulation(self, p: Tensor) -> Any:
        def look(gradient: Tensor) -> None:
            if id(p) not in self._first_look:
                here = p.grad.to_local() if is_shard(p.grad) else p.grad
                self._first_look[id(p)] = None if here is None else entries_of(here).any()

        return look

    def _look_back(self, p: Tensor) -> Tensor | None:
        """The same after the first accumulation: ``fully_shard`` reduces to shards that are no leaves of the graph.

        What was there on entry was added to if it is still there, and nobody else, such as ``zero_grad``, has written
        to it since.
        """
        if id(p) not in self._at_entry:
            return None
        grad, (of_shard, of_local), is_not_zero = self._at_entry[id(p)]
        return is_not_zero if grad is p.grad and _versions(grad) == (of_shard, of_local + 1) else None

    def _after_accumulation(self, p: Tensor) -> None:
        if id(p) not in self._first_look:
            self._first_look[id(p)] = self._look_back(p)
        if not self._is_queued:
            self._is_queued = True
            # Queued from a queued one, it runs after the one in which DistributedDataParallel ends its averaging.
            _at_end_of_backward(lambda: _at_end_of_backward(self._after_backward))

    def _after_backward(self) -> None:
        self._is_queued = False
        self.num_passes += 1
        self.mark = GradientMark(self.params)
        if self.keep:
            self.gradients = [
                torch.zeros_like(p) if p.grad is None else placed_like(p.grad.detach().clone(), p) for p in self.params
            ]


def _versions(shard: Tensor) -> tuple[int, int]:
    """How often a shard was written to: as a whole, and by what writes to the part that is here."""
    return shard._version, local_part(shard)._version


def _at_end_of_backward(callback: Any) -> None:
    torch.autograd.Variable._execution_engine.queue_callback(callback)
