"""DCAO in the Trainer of Lightning: ``DCAOCallback`` among its callbacks; see ``docs/trainers.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeGuard

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.core.optimizer import do_nothing_closure
from lightning.pytorch.loops.optimization.automatic import Closure, ClosureResult
from torch import Tensor
from torch.optim import Optimizer

from dcao.integrations.fabric import refuse_strategy
from dcao.loop.passes import FollowedPass, forward_pass
from dcao.optimizer import DCAO
from dcao.state.probing import is_probing
from dcao.state.start import no_surroundings


class DCAOCallback(Callback):
    """Makes Lightning's automatic optimization train with DCAO: ``Trainer(callbacks=[DCAOCallback()])``.

    ``configure_optimizers`` returns a DCAO, with or without a scheduler. Probes then measure all micro-batches of
    ``accumulate_grad_batches``, with the clip and the precision of the Trainer, and what they evaluate again is not in
    ``self.log`` and in metrics. A ``LearningRateMonitor`` logs the lr that has trained in a step, not a scheduler's.

    In manual optimization ``optimizer.minimize(loss_fn)``, ``step(closure)``, and ``probe_if_due(loss_fn)`` before
    ``step()`` need no callback, except for what their loss logs. Optimizers other than DCAO are left alone.

    Example:
        >>> trainer = Trainer(callbacks=[DCAOCallback()], logger=False, enable_checkpointing=False, accelerator="cpu")
        >>> any(isinstance(callback, DCAOCallback) for callback in trainer.callbacks)
        True
    """

    def __init__(self) -> None:
        self._attached = ExitStack()
        self._shown: list[_Shown] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a strategy that takes the step in an engine of its own."""
        if stage == "fit":
            refuse_strategy(trainer.strategy)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach to the loop, whose optimizers are there now, and loaded."""
        self._detach()
        ours = [optimizer for optimizer in trainer.optimizers if isinstance(optimizer, DCAO)]
        monitors = [callback for callback in _callbacks_of(trainer) if _is_monitor(callback)]
        self._shown = [self._attached.enter_context(_showing(each, ours, trainer)) for each in monitors if ours]
        for optimizer in ours:
            self._attached.enter_context(_protecting(trainer, optimizer))
            follow = _following if pl_module.automatic_optimization else _following_closures
            self._attached.enter_context(follow(trainer, optimizer))

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Let monitors log the lr that has trained."""
        for shown in self._shown:
            shown.batch_ends()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the loop as it was."""
        self._detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the loop as it was."""
        self._detach()

    def _detach(self) -> None:
        self._attached.close()
        self._shown = []


def _is_monitor(callback: Any) -> TypeGuard[LearningRateMonitor]:
    """By name, because the package ``pytorch_lightning`` has a copy of the class."""
    return any(each.__name__ == LearningRateMonitor.__name__ for each in type(callback).__mro__)


def _callbacks_of(trainer: Any) -> list[Callback]:
    return list(trainer.callbacks)


# --- the loss of a step -----------------------------------------------------------------------------------------------


@contextmanager
def _protecting(trainer: Trainer, optimizer: DCAO) -> Iterator[None]:
    """Context in which what a training step counts is put back after a probe: metrics, and the zeroing of gradients.

    What the module keeps is found from its parameters.
    """
    loop, probe = trainer.fit_loop.epoch_loop, optimizer.loop.probe
    zeroed = loop.automatic_optimization.optim_progress.optimizer.zero_grad
    counted = [loop._results, vars(loop._results), vars(zeroed.total), vars(zeroed.current)]
    probe.surroundings = lambda: ([_callbacks_of(trainer), *counted], ())
    try:
        yield
    finally:
        probe.surroundings = no_surroundings


@contextmanager
def _following(trainer: Trainer, optimizer: DCAO) -> Iterator[None]:
    """Context in which DCAO knows the passes of each step."""
    loop = trainer.fit_loop.epoch_loop.automatic_optimization
    make_closure = loop._make_closure

    def make_followed(kwargs: Any, inner: Optimizer, batch_idx: int) -> Closure:
        closure = make_closure(kwargs, inner, batch_idx)
        if closure._zero_grad_fn is not None:  # the first micro-batch of a step
            FollowedPass(optimizer, reached=[kwargs])
        follows = optimizer.coming.followed is not None  # if not, the Trainer makes no gradients
        return _FollowedClosure(closure, optimizer) if follows else closure

    vars(loop)["_make_closure"] = make_followed
    try:
        yield
    finally:
        vars(loop).pop("_make_closure", None)
        optimizer.coming.forget()


@contextmanager
def _following_closures(trainer: Trainer, optimizer: DCAO) -> Iterator[None]:
    """Context in which DCAO knows a caller's closure that is not handed to it: with a GradScaler Lightning calls it."""
    plugin = trainer.precision_plugin
    step = plugin.optimizer_step

    def follow_and_step(stepping: Any, model: Any, closure: Callable[[], Any], **kwargs: Any) -> Any:
        is_callers = getattr(closure, "__name__", "") != do_nothing_closure.__name__
        if stepping is optimizer and is_callers and not optimizer.coming.is_known:
            closure = partial(_follow, optimizer, closure)
        return step(stepping, model=model, closure=closure, **kwargs)

    if getattr(plugin, "scaler", None) is not None:
        vars(plugin)["optimizer_step"] = follow_and_step
    try:
        yield
    finally:
        vars(plugin).pop("optimizer_step", None)
        optimizer.coming.forget()


def _follow(optimizer: DCAO, closure: Callable[[], Any]) -> Any:
    followed = FollowedPass(optimizer, reached=[closure])
    followed.add(closure)
    loss = closure()
    followed.note(loss)
    return loss


class _FollowedClosure(Closure):
    """A closure of Lightning, which says what it is going to do when the Trainer calls it."""

    def __init__(self, closure: Closure, optimizer: DCAO) -> None:
        step = closure._step_fn
        super().__init__(lambda: forward_pass(optimizer, step), closure._backward_fn, closure._zero_grad_fn)
        self.optimizer = optimizer

    @torch.enable_grad()
    def closure(self, *args: Any, **kwargs: Any) -> ClosureResult:
        """Forward and backward pass of a micro-batch."""
        followed = self.optimizer.coming.followed
        if followed is None or is_probing():
            return super().closure(*args, **kwargs)
        followed.add(self._again)
        result = super().closure(*args, **kwargs)
        followed.note(result.closure_loss)
        return result

    def _again(self) -> Tensor | None:
        """The same without a result that the Trainer would ask for."""
        return self.closure().loss


# --- the lr that trains -----------------------------------------------------------------------------------------------


class _Shown:
    """A ``LearningRateMonitor`` that is asked at the end of each batch, while the groups hold what has trained."""

    def __init__(self, monitor: LearningRateMonitor, optimizers: Sequence[DCAO], trainer: Trainer) -> None:
        self.optimizers, self.trainer = optimizers, trainer
        self._at_batch, self._at_epoch = monitor.on_train_batch_start, monitor.on_train_epoch_start
        self._trained: dict[int, list[float]] = {}  # by the id of the base
        self._is_at_epoch = False

    def note_step(self, base: Optimizer, args: Any, kwargs: Any) -> None:
        """An optimizer has stepped."""
        self._trained[id(base)] = [float(group["lr"]) for group in base.param_groups]

    def epoch_starts(self, *args: Any, **kwargs: Any) -> None:
        """What trains in its first step is not decided yet."""
        self._is_at_epoch = True

    def batch_starts(self, *args: Any, **kwargs: Any) -> None:
        """What trains in the step is not decided yet."""

    def batch_ends(self) -> None:
        """Log what has trained."""
        with ExitStack() as lrs:
            for each in self.optimizers:
                lrs.enter_context(each.controller.lrs.replaced(self._trained.get(id(each.base))))
            if self._is_at_epoch:
                self._at_epoch(self.trainer)
            self._at_batch(self.trainer)
        self._is_at_epoch = False


@contextmanager
def _showing(monitor: LearningRateMonitor, optimizers: Sequence[DCAO], trainer: Trainer) -> Iterator[_Shown]:
    """Context in which a monitor shows what trains."""
    shown = _Shown(monitor, optimizers, trainer)
    handles = [each.base.register_step_post_hook(shown.note_step) for each in optimizers]
    hooks: dict[str, Callable[..., None]] = {
        "on_train_batch_start": shown.batch_starts,
        "on_train_epoch_start": shown.epoch_starts,
    }
    vars(monitor).update(hooks)
    try:
        yield shown
    finally:
        for handle in handles:
            handle.remove()
        for name in hooks:
            vars(monitor).pop(name, None)
