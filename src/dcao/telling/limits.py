"""Limits that hold lr far below what probes allow: a scheduler, whoever writes lr by hand, a bound of the policy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from dcao.controller import Controller
from dcao.lr_schedulers import has_scheduler, schedulers_of
from dcao.policies.base import Policy
from dcao.policies.compose import rules_of
from dcao.telling.notices import LONG, Notices

FAR = 10.0
"""How many times more than what trains probes have to allow."""


class LimitWatch:
    """Counts the steps at which a limit holds lr far below what probes allow.

    A schedule is judged by its peak, which is what the caller chose: that it falls far below that in the end, or starts
    there, is what schedules are for. So nothing is counted while lr rises, and as long as a schedule promises a higher
    lr (``initial_lr`` of a warmup, ``max_lr`` of OneCycleLR) and has not begun to fall, this one counts.

    What probes allow is the least that any probe of the run has allowed: where a loss is fitted to the end its valley
    flattens and allows any lr, which says nothing against the lr that has brought it there.

    Args:
        controller: Knows who else writes lr.
        notices: Tells the caller.
    """

    def __init__(self, controller: Controller, notices: Notices) -> None:
        self.controller, self.notices = controller, notices
        self._max_lr = max_lr_of(controller.policy)
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget all steps."""
        self._allowed = math.inf
        self._peak, self._has_risen = 0.0, False
        self._num_steps = self._num_held = 0

    def state_dict(self) -> dict[str, Any]:
        """What was allowed, and the peak so far, without which the end of a decay would be taken for all of it."""
        return {"allowed": self._allowed, "peak": self._peak, "has_risen": self._has_risen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.start_afresh()
        self._allowed, self._peak, self._has_risen = state["allowed"], state["peak"], state["has_risen"]

    def note(self, allowed: float) -> None:
        """What a probe allows."""
        if allowed > 0.0:
            self._allowed = min(self._allowed, allowed)

    def begin_step(self) -> None:
        """Judge the lr of the coming step."""
        self._num_steps += 1
        is_held = self._governed_far_below() if self._is_governed() else self._bounded_far_below()
        self._num_held = self._num_held + 1 if is_held and self._allowed < math.inf else 0
        if self._num_held == LONG and not self._tell():
            self._num_held = 0

    def _is_governed(self) -> bool:
        return self.controller.governed and self.controller.policy.governor

    def _governed_far_below(self) -> bool:
        before, self._peak = self._peak, max(*self._nominal(), self._peak)
        is_rising = self._peak > before > 0.0
        self._has_risen = self._has_risen or is_rising
        return not is_rising and self.controller.scale >= 1.0 and FAR * self._peak < self._allowed

    def _bounded_far_below(self) -> bool:
        if FAR * self._max_lr >= self._allowed:
            return False
        return self.controller.hyperparameters().lr >= (1.0 - 1e-6) * self._max_lr

    def _tell(self) -> bool:
        """Whether the caller has been told; not if the schedule promises more and may only be slow."""
        lr = self.controller.hyperparameters().lr
        if not self._is_governed():
            limit, fix = "the policy's max_lr", "widen max_lr"
        else:
            schedulers = schedulers_of(self.controller.optimizer)
            if FAR * max(self._promised()) >= self._allowed and not self._is_past_peak(schedulers):
                return False
            limit, fix = self._name_and_fix([type(each).__name__ for each in schedulers])
        self.notices.tell(
            "limit",
            f"for {LONG} steps {limit} has held lr (now {lr:.3g}) {FAR:g} times or more under the {self._allowed:.3g} "
            f"that probes allow. Training goes on at this lr, probably too slowly. Fix: {fix}",
        )
        return True

    def _is_past_peak(self, schedulers: Sequence[LRScheduler]) -> bool:
        """Whether a higher lr that the schedule promises is not to be expected any more."""
        if self._has_risen and max(self._nominal()) < self._peak:
            return True
        # One that moves at every step, and began with this watch, would have begun to rise by now.
        return any(LONG // 2 <= each.last_epoch <= self._num_steps + 1 for each in schedulers)

    def _name_and_fix(self, schedulers: list[str]) -> tuple[str, str]:
        exceed = "policy=policies.Ceiling(governor=False) lets DCAO exceed it"
        if schedulers:
            return (
                f"the scheduler ({', '.join(schedulers)}), whose largest lr so far is {self._peak:.3g},",
                f"drop the scheduler, or build the optimizer with a larger lr; {exceed}",
            )
        if has_scheduler(self.controller.optimizer):
            return (
                "the initial_lr in param_groups, which a scheduler has left there,",
                f"delete it if the scheduler is gone; {exceed}",
            )
        return (
            'whoever writes group["lr"] besides DCAO',
            f'leave group["lr"] alone, so that DCAO sets it, or set it before DCAO is built; {exceed}',
        )

    def _nominal(self) -> list[float]:
        return [float(group["lr"]) for group in self.controller.optimizer.param_groups]

    def _promised(self) -> Iterator[float]:
        for group in self.controller.optimizer.param_groups:
            yield max(float(group.get("initial_lr", 0.0)), float(group.get("max_lr", 0.0)))


def max_lr_of(policy: Policy) -> float:
    """Smallest upper bound on lr that the caller has given to the policy's rules; infinite without one.

    The default of a rule is not the caller's choice: lr gets there where the valley is flat, and has to stop somewhere.
    """
    given = [(rule, bound) for rule in rules_of(policy) if (bound := getattr(rule, "max_lr", None)) is not None]
    return min(
        (float(bound) for rule, bound in given if bound != getattr(type(rule), "max_lr", None)), default=math.inf
    )
