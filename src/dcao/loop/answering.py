"""What follows from the guard's verdict: on lr, on the policy, and in the log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dcao.guarding.guard import StepGuard
from dcao.guarding.settings import Verdict
from dcao.guarding.turning import Rising
from dcao.policies.base import Decision
from dcao.probing.batch import Batch, mean_loss_of
from dcao.probing.estimate import blown_up

if TYPE_CHECKING:
    from dcao.loop.probe_loop import ProbeLoop


def lets_pass(guard: StepGuard, loop: ProbeLoop, batch: Batch | None) -> bool:
    """Whether the guard lets the coming step pass; what it has found is answered and recorded."""
    verdict = guard.check(None if batch is None else batch.loss, loop.num_steps, _rising(loop))
    if verdict is not None:
        _answer(loop, verdict, mean_loss_of(batch, loop.probe.model))
    return verdict is None or not verdict.skips


def _rising(loop: ProbeLoop) -> Rising | None:
    """How the policy wants the loss watched; None if it does not.

    Nor is it watched at an lr of 0, which trains nothing, and where a group that was added later climbs.
    """
    controller, state = loop.controller, loop.controller.policy_state
    lr = controller.training_hyperparameters().lr
    errors = None if state is None else controller.policy.turns_back_at(loop.num_steps, lr, state)
    if errors is None or any(group.get("maximize", False) for group in loop.probe.optimizer.param_groups):
        return None
    return Rising(lr=lr, errors=errors) if lr > 0.0 else None


def _answer(loop: ProbeLoop, verdict: Verdict, loss: float | None) -> None:
    """Scale lr as the guard says, record what it has found, and tell the policy if the run has gone back."""
    controller = loop.controller
    before, now = controller.training_hyperparameters(), time.perf_counter()
    if verdict.skips:
        loop.watch.note_skip(loop.num_steps, verdict.reason)
    if controller.policy.adapts:
        controller.scale_lr(verdict.factor)
    if verdict.turned_at is not None and controller.policy_state is not None:
        controller.policy_state = controller.policy.turned_back(verdict.turned_at, controller.policy_state)
        if verdict.skips:  # else it moves before the step
            controller.move_on(loop.num_steps)
    decision = Decision(hyperparameters=controller.training_hyperparameters(), reason=verdict.reason)
    loop.record(decision, before, loss, now, turned_at=verdict.turned_at)
    loop.is_unlike_others = verdict.is_data and loop.turns.grants_more and loop.source.is_training_batch
    if verdict.went_back and controller.policy.adapts:
        loop.act(blown_up(loop.num_steps, loop.probe.settings.measure, loss), loss, now)
