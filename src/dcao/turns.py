"""When a spectrum that only informs has its turn."""

from __future__ import annotations

from typing import Any

from dcao.schedules import Schedule


class SpectrumTurns:
    """Turns by a schedule, at most one a step; a turn that could not be taken is owed until the next step that can.

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
        """Forget all turns."""
        self.taken_at = -1
        self.is_owed = False

    def is_due(self, step: int) -> bool:
        """Whether a spectrum is due before ``step``."""
        if self.schedule is None or self.taken_at == step:
            return False
        return self.is_owed or self.schedule(step, 0.0)

    def take(self, step: int) -> None:
        """Note that the turn of this step was taken, or tried."""
        self.taken_at, self.is_owed = step, False

    def pass_step(self, step: int) -> None:
        """Note that ``step`` is over: if its turn was not taken, it is owed."""
        self.is_owed = self.is_due(step)

    def state_dict(self) -> dict[str, Any]:
        """The last turn, and whether one is owed."""
        return {"taken_at": self.taken_at, "is_owed": self.is_owed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.taken_at, self.is_owed = state["taken_at"], state["is_owed"]
