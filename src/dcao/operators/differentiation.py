"""How the gradient of a loss is made: by ``autograd.grad``, and by ``backward`` where that is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from dcao.operators.graph import graph_nodes
from dcao.operators.loss_scale import LossScale, flows_in_float16
from dcao.shards import is_shard, placed_like

T = TypeVar("T")


class GradRefused(RuntimeError):
    """The loss has to be evaluated again, because its gradient has to be made in another way than was tried."""


class Differentiation:
    """Gradients of a loss, by ``autograd.grad`` until that is refused, and by ``backward`` from then on.

    ``autograd.grad`` is the first choice because it leaves ``.grad`` and the hooks that fire when it is filled alone.
    Re-entrant activation checkpointing and functions like it (DeepSpeed's, Megatron's, MemCNN's) refuse it, each in
    words of its own. Shards of parameters are no leaves of the graph: ``backward`` alone reduces gradients to them.

    Attributes:
        by_backward: Whether ``backward`` is used.
        has_reached: Whether the last loss depended on any of the parameters.
        scale: Factor of losses whose gradients flow in float16.
    """

    def __init__(self) -> None:
        self.by_backward = False
        self.has_reached = False
        self._has_worked = False  # either way; from then on it is the only one
        self._failed_with = ""  # what autograd.grad said where backward did not work either
        self._hides_nothing = False  # looked for once
        self.scale = LossScale()

    def gradient(self, loss: Tensor, params: Sequence[Tensor], *, is_scaled: bool = True) -> list[Tensor]:
        """Gradient of ``loss``; zero for parameters that it does not use.

        Call it inside :func:`dcao.isolation.leave_no_trace`, which empties every ``.grad`` and puts it back, and inside
        :func:`again_if_refused`.

        Args:
            loss: The scalar loss with its graph.
            params: What to differentiate by.
            is_scaled: Keep small gradients in float16 from becoming 0; False: as ``loss.backward()`` makes them. Those
                of shards are never scaled: one that overflows on one rank alone would leave the others waiting.

        Raises:
            GradRefused: ``autograd.grad`` has failed, or may have missed a parameter, for the first time, or a gradient
                in float16 has overflowed; the loss has to be evaluated again.
        """
        if not is_scaled or any(map(is_shard, params)) or not flows_in_float16(loss):
            return self._gradient(loss, params)
        gradients = self.scale.undone(self._gradient(self.scale.times(loss), params))
        if gradients is None:
            raise GradRefused("the gradient of the scaled loss overflows float16")
        return gradients

    def _gradient(self, loss: Tensor, params: Sequence[Tensor]) -> list[Tensor]:
        self.by_backward = self.by_backward or any(map(is_shard, params))
        with _without_accumulation_hooks(params):
            found = self._run_backward(loss, params) if self.by_backward else self._try_grad(loss, params)
        left = [_take_grad(p) for p in params]
        is_missed = any(one is None and other is None for one, other in zip(found, left, strict=True))
        if is_missed and not self.by_backward and not self._hides_nothing:
            # Parameters inside a re-entrant checkpoint are no leaves of the graph, so it may be passed by.
            if has_custom_function(loss):
                self.by_backward = True
                raise GradRefused("a function in the graph may hide parameters")
            self._hides_nothing = True
        self._has_worked = True
        self.has_reached = any(grad is not None for grad in (*found, *left))
        return [placed_like(_sum(*three), three[2]) for three in zip(found, left, params, strict=True)]

    def _try_grad(self, loss: Tensor, params: Sequence[Tensor]) -> Sequence[Tensor | None]:
        try:
            return torch.autograd.grad(loss, list(params), allow_unused=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self._has_worked or str(error) == self._failed_with:
                raise
            self.by_backward, self._failed_with = True, str(error)
            raise GradRefused(str(error)) from error

    def _run_backward(self, loss: Tensor, params: Sequence[Tensor]) -> Sequence[Tensor | None]:
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except RuntimeError:
            self.by_backward = self._has_worked  # it was not for the way of asking that autograd.grad failed
            raise
        return [None] * len(params)


def again_if_refused(evaluate: Callable[[], T]) -> T:
    """What ``evaluate`` returns, which enters an isolated context of its own and differentiates the loss there."""
    while True:
        try:
            return evaluate()
        except GradRefused:  # each cause occurs a few times at most
            pass  # outside the handler: the error would hold the graph


def has_custom_function(loss: Tensor) -> bool:
    """Whether the graph of ``loss`` holds a function that is written in Python, such as a checkpoint."""
    return any(isinstance(node, BackwardCFunction) for node in graph_nodes(loss))


def _take_grad(param: Tensor) -> Tensor | None:
    """What ``backward``, or a function that fills ``.grad`` by itself as reversible blocks do, has left there."""
    grad, param.grad = param.grad, None
    return grad


def _sum(found: Tensor | None, left: Tensor | None, param: Tensor) -> Tensor:
    if found is not None and left is not None:
        return found + left
    either = found if found is not None else left
    return torch.zeros_like(param) if either is None else either


@contextmanager
def _without_accumulation_hooks(params: Sequence[Tensor]) -> Iterator[None]:
    """Context in which hooks on a filled ``.grad`` do not fire: some of them take an optimizer's step."""
    hooked = [hooks for p in params if (hooks := getattr(p, "_post_accumulate_grad_hooks", None))]
    saved = [dict(hooks) for hooks in hooked]
    try:
        for hooks in hooked:
            hooks.clear()
        yield
    finally:
        for hooks, kept in zip(hooked, saved, strict=True):
            hooks.update(kept)
