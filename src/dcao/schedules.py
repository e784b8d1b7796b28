"""When to probe: pure functions of the step and of what probing has cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dcao.checks import require_whole

__all__ = ["Schedule", "every", "overhead", "thinning", "usual"]

Schedule = Callable[[int, float], bool]
"""``schedule(step, cost) -> bool``: is a probe due before optimizer step ``step`` (0 is the first)? ``cost`` is what
probes will have cost in gradient evaluations once this one is done (it is taken to cost as much as the last one)."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When to probe.

    Attributes:
        schedule: When the measure that decides is due; None for never.
        spectrum: When a Lanczos run that only informs is due; None for never.
        settle: Probe before the first update until the lr rule no longer cuts, and in the beginning at every step
            while it is at its clip.
        demanded: Whether the caller asked for a schedule, so that a due probe with nothing to probe is an error.
    """

    schedule: Schedule | None
    spectrum: Schedule | None
    settle: bool
    demanded: bool


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


def thinning(*stages: tuple[int, int], then: int = 30) -> Schedule:
    """Schedule that probes often at first and seldom later.

    The default probes 12 times in the first 60 steps, in which lr rises, 34 times in 500 and 84 times in 2000: 8.7 % of
    all evaluations in 200 steps, 6.4 % in 500 and 4.0 % in 2000.

    Args:
        stages: Pairs ``(until, interval)``: up to step ``until``, every ``interval`` steps. Default
            ``(60, 5), (500, 20)``.
        then: Interval afterwards.

    Example:
        >>> [step for step in range(140) if thinning()(step, 0.0)]
        [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 80, 100, 120]
    """
    return Thinning(stages=stages or ((60, 5), (500, 20)), then=then)


SHORT_RUN = 165
"""Steps from which on :func:`thinning` costs less than 10 % of all gradient evaluations, wherever the run ends."""


def usual(total_steps: int | None = None) -> Schedule:
    """Schedule that :class:`dcao.DCAO` probes by where none is given: at most 10 % of all gradient evaluations.

    :func:`thinning`, which costs that or less in runs of ``SHORT_RUN`` steps and more; a run that is known to be
    shorter is probed by :func:`overhead`, at steps 0, 18, 27, 36 and so on.

    Args:
        total_steps: Training steps of the run; None: not known.

    Example:
        >>> usual(100)
        Overhead(share=0.1)
    """
    return overhead(0.1) if total_steps is not None and total_steps < SHORT_RUN else thinning()


@dataclass(frozen=True)
class Every:
    """See :func:`every`."""

    interval: int

    def __post_init__(self) -> None:
        require_whole("every", self.interval, "step", fix="; to never adapt, use policy=policies.fixed()")

    def __call__(self, step: int, cost: float) -> bool:
        """Whether ``step`` is a multiple of the interval."""
        return step % self.interval == 0


@dataclass(frozen=True)
class Overhead:
    """See :func:`overhead`."""

    share: float

    def __post_init__(self) -> None:
        if isinstance(self.share, bool) or not isinstance(self.share, (int, float)):
            raise TypeError(f"overhead must be a number, got {self.share!r}")
        if not 0.0 < self.share < 1.0:  # "not a < b" also catches nan
            raise ValueError(f"overhead must be a share between 0 and 1, such as 0.05, got {self.share}")

    def __call__(self, step: int, cost: float) -> bool:
        """Whether the share still holds after a probe now."""
        return step == 0 or cost <= self.share * (step + cost)


@dataclass(frozen=True, kw_only=True)
class Thinning:
    """See :func:`thinning`."""

    stages: tuple[tuple[int, int], ...]
    then: int

    def __post_init__(self) -> None:
        for until, interval in self.stages:
            require_whole("until", until, "step")
            require_whole("interval", interval, "step")
        require_whole("then", self.then, "step")

    def __call__(self, step: int, cost: float) -> bool:
        """Whether ``step`` is on the grid of its stage, which starts where the one before ends."""
        begin = 0
        for until, interval in self.stages:
            if step < until:
                return (step - begin) % interval == 0
            begin = until
        return (step - begin) % self.then == 0
