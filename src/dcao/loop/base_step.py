"""The step of the base optimizer, with the probe that is due just before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_pre_hooks

from dcao.gradients.gradient_mark import GradientMark
from dcao.loop.own_loop import compare_with_probe, is_comparable
from dcao.loop.probe_loop import ProbeLoop
from dcao.probing.batch import Batch
from dcao.shards import gradients_of, is_shard
from dcao.sums import joint_length
from dcao.vectors import params_of


def probe_and_step(base: Optimizer, loop: ProbeLoop, batch: Batch | None, *, has_gradient: bool) -> None:
    """Clip the gradient if the caller asked for it, let the loop act on the coming step, and take it.

    A hook of the base may read the lr that trains, so that the loop acts before the hooks. It may also clip: once one
    has been seen to write to the gradients, a due probe waits for the hooks, to find what steps. The probe before which
    it is seen first is made again. What a loop of its own has probed is compared with the gradient after the hooks.
    """
    if batch is not None and batch.clip_norm is not None:
        clip(params_of(base), batch.clip_norm)
    compares = has_gradient and is_comparable(loop)
    if has_pre_hooks(base):
        _step_with_hooks(base, loop, batch, has_gradient=has_gradient, compares=compares)
        return
    if compares:
        compare_with_probe(loop)
    loop.before_step(batch, has_gradient=has_gradient)
    with loop.controller.training_lrs():
        base.step()


def clip(params: Sequence[Tensor], max_norm: float) -> None:
    """Shorten the gradient of all parameters together to at most ``max_norm``, as torch does.

    Torch's own function does not take gradients that are sharded in different ways, or some of them not at all.
    """
    grads = [p.grad for p in params if p.grad is not None]
    if not any(map(is_shard, grads)):
        clip_grad_norm_(params, max_norm)
        return
    factor = max_norm / (joint_length(gradients_of(params)) + 1e-6)  # torch's guard against 0
    for grad in grads:
        grad.mul_(min(factor, 1.0))


def _step_with_hooks(
    base: Optimizer, loop: ProbeLoop, batch: Batch | None, *, has_gradient: bool, compares: bool
) -> None:
    """The same where hooks of the base may read the lr that trains, or write to the gradients."""
    is_due = has_gradient and loop.decides()
    waits = is_due and loop.hooks_write
    if not waits:
        loop.before_step(batch, has_gradient=has_gradient)
    with ExitStack() as lrs:

        def after_hooks() -> None:
            hooks_have_written = not before_hooks.is_unchanged()
            if not (waits or compares or hooks_have_written):
                return
            lrs.pop_all().close()  # who decides reads nominal lrs
            if compares:
                compare_with_probe(loop)
            if waits:
                loop.before_step(batch)
            elif is_due and hooks_have_written:
                loop.act_again(batch)
            lrs.enter_context(loop.controller.training_lrs())

        lrs.enter_context(loop.controller.training_lrs())
        if not (is_due or compares):
            base.step()
            return
        before_hooks = GradientMark(params_of(base))
        with calling_after_pre_hooks(base, after_hooks):
            base.step()


def has_pre_hooks(optimizer: Optimizer) -> bool:
    """Whether anything runs in ``optimizer.step()`` before the step itself."""
    return bool(optimizer._optimizer_step_pre_hooks or _global_optimizer_pre_hooks)


@contextmanager
def calling_after_pre_hooks(optimizer: Optimizer, act: Callable[[], None]) -> Iterator[None]:
    """Context in which ``optimizer.step()`` calls ``act`` when all its pre-hooks have run, so that it sees their work.

    Example:
        >>> import torch
        >>> sgd, calls = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]), []
        >>> _ = sgd.register_step_pre_hook(lambda optimizer, args, kwargs: calls.append("a clip"))
        >>> with calling_after_pre_hooks(sgd, lambda: calls.append("a probe")):
        ...     sgd.step()
        >>> calls
        ['a clip', 'a probe']
    """

    def hook(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        act()

    handle = optimizer.register_step_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
