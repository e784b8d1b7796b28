"""The step of the base optimizer, with the probe that is due just before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from dcao.loop import ProbeLoop
from dcao.probing.batch import Batch
from dcao.vectors import params_of


def probe_and_step(base: Optimizer, loop: ProbeLoop, batch: Batch | None) -> None:
    """Clip the gradient if the caller asked for it, let the loop act on the coming step, and take it.

    A probe that is due comes after the base's own pre-hooks, which may clip too: what it finds is what steps.
    """
    if batch is not None and batch.clip_norm is not None:
        clip_grad_norm_(params_of(base), batch.clip_norm)
    with ExitStack() as until_stepped:

        def act() -> None:
            until_stepped.pop_all().close()  # who decides reads nominal lrs
            loop.before_step(batch)
            until_stepped.enter_context(loop.controller.training_lrs())

        if not loop.is_due():
            act()
            base.step()
            return
        until_stepped.enter_context(loop.controller.training_lrs())
        with after_pre_hooks(base, act):
            base.step()


@contextmanager
def after_pre_hooks(optimizer: Optimizer, act: Callable[[], None]) -> Iterator[None]:
    """Context in which ``optimizer.step()`` calls ``act`` when all its pre-hooks have run, so that it sees their work.

    For an optimizer whose step calls no hooks, ``act`` is called on entry.

    Example:
        >>> import torch
        >>> sgd, calls = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]), []
        >>> _ = sgd.register_step_pre_hook(lambda optimizer, args, kwargs: calls.append("a clip"))
        >>> with after_pre_hooks(sgd, lambda: calls.append("a probe")):
        ...     sgd.step()
        >>> calls
        ['a clip', 'a probe']
    """
    if not getattr(type(optimizer).step, "hooked", False):
        act()
        yield
        return

    def hook(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        act()

    handle = optimizer.register_step_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
