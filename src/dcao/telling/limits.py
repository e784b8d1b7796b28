"""Limits that hold lr far below what probes allow: a scheduler, whoever writes lr by hand, a bound of the policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from dcao.controller import Controller
from dcao.lr_schedulers import schedulers_of
from dcao.policies.base import Policy
from dcao.policies.compose import rules_of
from dcao.telling.notices import LONG, Notices

FAR = 10.0
"""How many times more than what trains probes have to allow."""


class LimitWatch:
    """Counts the steps at which a limit holds lr far below what probes allow.

    A scheduler gives the shape of lr, and that starts and ends as low as it likes. It is a limit only if it stays far
    below its top, or if the policy never exceeds the scheduled lr. Nothing is counted while lr rises, and as long as a
    schedule promises a higher lr and has not begun to fall, this one counts.

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
        self._allowed, self._peak, self._highest_share = math.inf, 0.0, 0.0
        self._num_steps = self._num_held = 0

    def state_dict(self) -> dict[str, Any]:
        """What was allowed, and the peak so far, without which the end of a decay would be taken for all of it."""
        return {"allowed": self._allowed, "peak": self._peak}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.start_afresh()
        self._allowed, self._peak = state["allowed"], state["peak"]

    def note(self, allowed: float) -> None:
        """What a probe allows."""
        if allowed > 0.0:
            self._allowed = min(self._allowed, allowed)

    def begin_step(self) -> None:
        """Judge the lr of the coming step."""
        self._num_steps += 1
        if self.controller.shape is None and self._max_lr == math.inf:
            return  # there is no limit; a tensor lr is not read from its device
        self._peak = max(self.controller.training_hyperparameters().lr, self._peak)
        shape, highest = self.controller.shape, self._highest_share
        self._highest_share = 0.0 if shape is None else shape.peak
        is_rising = self._highest_share > highest
        is_limited = self._is_bounded() or (not is_rising and (self._is_low_in_shape() or self._is_below_schedule()))
        self._num_held = self._num_held + 1 if is_limited and FAR * self._peak < self._allowed < math.inf else 0
        if self._num_held == LONG and not self._tell():
            self._num_held = 0

    def _is_bounded(self) -> bool:
        return self.controller.hyperparameters().lr >= (1.0 - 1e-6) * self._max_lr

    def _is_low_in_shape(self) -> bool:
        return self.controller.shape is not None and FAR * self.controller.shape.peak < 1.0

    def _is_below_schedule(self) -> bool:
        shape = self.controller.shape
        return shape is not None and self.controller.policy.never_above_schedule and shape.is_at_schedule

    def _tell(self) -> bool:
        """Whether the caller has been told; not if the schedule promises more and may only be slow."""
        lr = self.controller.training_hyperparameters().lr
        if self._is_bounded():
            limit, fix = "the policy's max_lr", "widen max_lr"
        else:
            schedulers = schedulers_of(self.controller.optimizer)
            if FAR * self._promised() >= self._allowed and not self._is_past_peak(schedulers):
                return False
            limit, fix = self._name_and_fix([type(each).__name__ for each in schedulers])
        self.notices.tell(
            "limit",
            f"for {LONG} steps {limit} has held lr (now {lr:.3g}) {FAR:g} times or more under the {self._allowed:.3g} "
            f"that probes allow. Training goes on at this lr, probably too slowly. Fix: {fix}",
        )
        return True

    def _promised(self) -> float:
        """The lr that is to be expected at the top of the shape."""
        shape = self.controller.shape
        if shape is None or shape.kind == "hand":
            return 0.0
        return max(shape.tops) if self._is_below_schedule() else max(shape.levels)

    def _is_past_peak(self, schedulers: Sequence[LRScheduler]) -> bool:
        """Whether a higher lr that the schedule promises is not to be expected any more."""
        shape = self.controller.shape
        if shape is not None and shape.has_risen and shape.num_falls:
            return True
        # One that moves at every step, and began with this watch, would have begun to rise by now.
        return any(LONG // 2 <= each.last_epoch <= self._num_steps + 1 for each in schedulers)

    def _name_and_fix(self, schedulers: list[str]) -> tuple[str, str]:
        shape = self.controller.shape
        assert shape is not None
        who = f"the scheduler ({', '.join(schedulers)})" if schedulers else "the scheduler"
        if self._is_below_schedule():
            fix = "drop never_above_schedule=True, or build the optimizer with a larger lr"
            largest = max(shape.tops) * shape.peak
            return f"{who}, whose largest lr so far is {largest:.3g}, and which is never exceeded,", fix
        if shape.kind == "hand":
            fix = 'leave group["lr"] alone: DCAO finds the lr, and takes what others write for a part of its own'
            return f'whoever writes group["lr"], which is at {shape.peak:.3g} of what it was,', fix
        fix = "let the largest lr of the scheduler be the one that the optimizer is built with, which may be any"
        return f"{who}, which has come to no more than {shape.peak:.3g} of its top,", fix


def max_lr_of(policy: Policy) -> float:
    """Smallest upper bound on lr that the caller has given to the policy's rules; infinite without one.

    The default of a rule is not the caller's choice: lr gets there where the valley is flat, and has to stop somewhere.
    """
    given = [(rule, bound) for rule in rules_of(policy) if (bound := getattr(rule, "max_lr", None)) is not None]
    return min(
        (float(bound) for rule, bound in given if bound != getattr(type(rule), "max_lr", None)), default=math.inf
    )
