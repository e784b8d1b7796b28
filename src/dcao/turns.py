"""When a probe that decides is due, and when a spectrum that only informs."""

from __future__ import annotations

from typing import Any

from dcao.schedules import Schedule

MAX_PROBES_BEFORE_START = 60
"""Probes before the first update: 0.8**60 takes an lr of 10 below 2e-5."""


def most_probes(step: int) -> int:
    """Before the first update a policy may ask for probe after probe, because no step has been lost yet."""
    return MAX_PROBES_BEFORE_START if step == 0 else 1


class ProbeTurns:
    """The probes on which the policy decides: due by a schedule, and whenever the policy asks for one more.

    Args:
        schedule: When a probe is due; None: never.

    Attributes:
        grants_more: Whether a policy that asks for a probe gets it.
        is_owed: Whether a probe is due because the step that it was due at had no gradient to follow.
        taken_at: The step before which the last probe was made; -1: none was.

    Example:
        >>> from dcao.schedules import Every
        >>> turns = ProbeTurns(Every(5))
        >>> turns.take(0, spent=1.0)
        >>> turns.begin(1)
        >>> turns.is_due(1)
        False
        >>> turns.begin(5)
        >>> turns.is_due(5)
        True
    """

    def __init__(self, schedule: Schedule | None) -> None:
        self.schedule = schedule
        self.grants_more = schedule is not None and schedule.grants_more
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget all probes."""
        self.is_owed = self._is_wanted = False
        self.taken_at = -1
        self._cost = 0.0  # without spectra, which no budget pays for
        self.last_cost = 1.0  # a guess, until the first probe says what it cost
        self._due_at_start = self.schedule is not None and self.schedule(0, self.last_cost)
        self.begin(0)

    @property
    def has_begun(self) -> bool:
        """Whether a probe has been made in this run."""
        return self.taken_at >= 0

    def is_due(self, step: int) -> bool:
        """Whether a probe is due before ``step``, which has begun."""
        return self._due and self.taken_at != step

    def begin(self, step: int) -> None:
        """Ask the schedule, once, about the step that comes now."""
        is_first = self._due_at_start and not self.has_begun  # also if the guard has skipped its step
        self._due = is_first or self.is_owed or self._is_wanted
        if not self._due and self.schedule is not None:
            self._due = self.schedule(step, self._cost + self.last_cost)

    def take(self, step: int, *, spent: float) -> None:
        """Note a probe before ``step``, and what it has cost; 0 if it was reported for nothing."""
        self.last_cost = spent or self.last_cost
        self._cost += spent
        self.taken_at, self.is_owed = step, False

    def take_back(self, step: int) -> None:
        """Forget the probe before ``step``."""
        self.taken_at = step - 1

    def ask_for_more(self, wanted: bool) -> bool:
        """Note whether the policy wants the next step probed too; returns whether it will be."""
        self._is_wanted = wanted and self.grants_more
        return self._is_wanted

    def state_dict(self) -> dict[str, Any]:
        """Costs so far, the step of the last probe, and whether one is postponed or asked for."""
        return {
            "scheduled_cost": self._cost,
            "last_cost": self.last_cost,
            "probe_again": self._is_wanted,
            "is_owed": self.is_owed,
            "probed_at": self.taken_at,
        }

    def load_state_dict(self, state: dict[str, Any], step: int, *, is_same_policy: bool) -> None:
        """Go on from a saved state, before ``step``."""
        self.start_afresh()
        self._cost, self.last_cost = state["scheduled_cost"], state["last_cost"]
        self.taken_at, self.is_owed = state["probed_at"], state["is_owed"]
        # Only the policy that asked for the pending probe still wants it, and this schedule may not grant it.
        self.ask_for_more(state["probe_again"] and is_same_policy)
        self.begin(step)


class SpectrumTurns:
    """Spectra by a schedule, at most one a step; one that cannot be made is postponed to the next step that allows it.

    Args:
        schedule: When a spectrum is due; None: never.

    Example:
        >>> from dcao.schedules import Every
        >>> turns = SpectrumTurns(Every(5))
        >>> turns.is_due(0), turns.is_due(3)
        (True, False)
        >>> turns.pass_step(0)  # the step had nothing to measure
        >>> turns.is_due(1)
        True
    """

    def __init__(self, schedule: Schedule | None) -> None:
        self.schedule = schedule
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget all spectra."""
        self.taken_at = -1
        self.is_owed = False

    def is_due(self, step: int) -> bool:
        """Whether a spectrum is due before ``step``."""
        if self.schedule is None or self.taken_at == step:
            return False
        return self.is_owed or self.schedule(step, 0.0)

    def take(self, step: int) -> None:
        """Note that the spectrum of this step was made, or tried."""
        self.taken_at, self.is_owed = step, False

    def pass_step(self, step: int) -> None:
        """Note that ``step`` is over: a spectrum that was due and not made is postponed."""
        self.is_owed = self.is_due(step)

    def state_dict(self) -> dict[str, Any]:
        """The step of the last spectrum, and whether one is postponed."""
        return {"taken_at": self.taken_at, "is_owed": self.is_owed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.taken_at, self.is_owed = state["taken_at"], state["is_owed"]
