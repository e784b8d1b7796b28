"""When to probe: pure functions of the step and of what probing has cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[int, float], bool]
"""``schedule(step, cost) -> bool``: is a probe due before optimizer step ``step`` (0 is the first)? ``cost`` is what
probes will have cost in gradient evaluations once this one is done (it is taken to cost as much as the last one)."""


def every(interval: int) -> Schedule:
    """Schedule that probes every ``interval`` optimizer steps, the first time before step 0.

    Example:
        >>> [step for step in range(10) if every(4)(step, 0.0)]
        [0, 4, 8]
    """
    return Every(interval)


def overhead(share: float) -> Schedule:
    """Schedule that probes as often as at most ``share`` of all gradient evaluations allows.

    A training step costs one evaluation. The probe before step 0 is due whatever it costs; the schedule then waits
    until it is paid for.

    Example:
        >>> schedule, cost, steps = overhead(0.1), 0.0, []
        >>> for step in range(40):
        ...     if schedule(step, cost + 1.0):
        ...         steps, cost = [*steps, step], cost + 1.0
        >>> steps
        [0, 18, 27, 36]
    """
    return Overhead(share)


@dataclass(frozen=True)
class Every:
    """See :func:`every`."""

    interval: int

    def __post_init__(self) -> None:
        if isinstance(self.interval, bool) or not isinstance(self.interval, int):
            raise TypeError(f"every must be a whole number of steps, got {self.interval!r}")
        if self.interval <= 0:
            raise ValueError(
                f"every must be at least 1 step, got {self.interval}; to never adapt, use policy=policies.fixed()"
            )

    def __call__(self, step: int, cost: float) -> bool:
        """Whether ``step`` is a multiple of the interval."""
        return step % self.interval == 0


@dataclass(frozen=True)
class Overhead:
    """See :func:`overhead`."""

    share: float

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:  # "not a < b" also catches nan
            raise ValueError(f"overhead must be a share between 0 and 1, such as 0.05, got {self.share}")

    def __call__(self, step: int, cost: float) -> bool:
        """Whether the share still holds after a probe now."""
        return step == 0 or cost <= self.share * (step + cost)
