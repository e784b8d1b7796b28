"""When to probe: pure functions of the step and of what probing has cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from dcao.checks import require_number, require_whole

__all__ = ["Every", "Overhead", "Schedule", "Thinning", "usual"]

SHORT_RUN = 165
"""Steps from which on :class:`Thinning` costs less than 10 % of all gradient evaluations, wherever the run ends."""


class Schedule(ABC):
    """When a probe is due. A subclass has to write :meth:`__call__`.

    Example:
        >>> class PowersOfTwo(Schedule):
        ...     def __call__(self, step: int, cost: float) -> bool:
        ...         return step & (step - 1) == 0
        >>> [step for step in range(40) if PowersOfTwo()(step, 0.0)]
        [0, 1, 2, 4, 8, 16, 32]
    """

    @abstractmethod
    def __call__(self, step: int, cost: float) -> bool:
        """Whether a probe is due before optimizer step ``step``; 0 is the first.

        Args:
            step: Optimizer step that comes next.
            cost: What probes will have cost, in gradient evaluations, once this one is done. It is taken to cost as
                much as the last one.
        """

    @property
    def grants_more(self) -> bool:
        """Whether a policy that asks for a probe before its time gets it. Default: True."""
        return True


ScheduleLike = int | Schedule | Callable[[int, float], bool]
"""Steps between probes, a schedule, or a function ``(step, cost) -> bool``."""


@dataclass(frozen=True)
class Every(Schedule):
    """Schedule that probes every ``interval`` optimizer steps, the first time before step 0.

    Example:
        >>> [step for step in range(10) if Every(4)(step, 0.0)]
        [0, 4, 8]
    """

    interval: int

    def __post_init__(self) -> None:
        require_whole("every", self.interval, "step", fix="; to never adapt, use policy=policies.Fixed()")

    def __call__(self, step: int, cost: float) -> bool:
        """Whether ``step`` is a multiple of the interval."""
        return step % self.interval == 0


@dataclass(frozen=True)
class Overhead(Schedule):
    """Schedule that probes as often as at most ``share`` of all gradient evaluations allows.

    A training step costs one evaluation. The probe before step 0 is due whatever it costs; the schedule then waits
    until it is paid for. A policy that asks for more probes does not get them.

    Example:
        >>> schedule, cost, steps = Overhead(0.1), 0.0, []
        >>> for step in range(40):
        ...     if schedule(step, cost + 1.0):
        ...         steps, cost = [*steps, step], cost + 1.0
        >>> steps
        [0, 18, 27, 36]
    """

    share: float

    def __post_init__(self) -> None:
        require_number("share", self.share)
        if not 0.0 < self.share < 1.0:  # "not a < b" also catches nan
            raise ValueError(f"share must be between 0 and 1, such as 0.05, got {self.share}")

    def __call__(self, step: int, cost: float) -> bool:
        """Whether the share still holds after a probe now."""
        return step == 0 or cost <= self.share * (step + cost)

    @property
    def grants_more(self) -> bool:
        """False: probes at every step would exceed the budget."""
        return False


@dataclass(frozen=True, kw_only=True)
class Thinning(Schedule):
    """Schedule that probes often at first and seldom later.

    The default probes 12 times in the first 60 steps, in which lr rises, 34 times in 500 and 84 times in 2000, which
    ``docs/cost.md`` gives as shares of all gradient evaluations.

    Args:
        stages: Pairs ``(until, interval)``: up to step ``until``, every ``interval`` steps.
        then: Interval afterwards.

    Example:
        >>> [step for step in range(140) if Thinning()(step, 0.0)]
        [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 80, 100, 120]
    """

    stages: tuple[tuple[int, int], ...] = ((60, 5), (500, 20))
    then: int = 30

    def __post_init__(self) -> None:
        require_whole("then", self.then, "step")
        begin = 0
        for stage in self.stages:
            if not isinstance(stage, tuple) or len(stage) != 2:
                fix = "write stages=((60, 5), (500, 20))"
                raise TypeError(f"stages must be pairs (until, interval), got {stage!r}; {fix}")
            until, interval = stage
            require_whole("until", until, "step")
            require_whole("interval", interval, "step")
            if until <= begin:
                raise ValueError(
                    f"stages must end one after the other, got a stage until {until} after one until {begin}"
                )
            begin = until

    def __call__(self, step: int, cost: float) -> bool:
        """Whether ``step`` is on the grid of its stage, which starts where the one before ends."""
        begin = 0
        for until, interval in self.stages:
            if step < until:
                return (step - begin) % interval == 0
            begin = until
        return (step - begin) % self.then == 0


def usual(total_steps: int | None = None) -> Schedule:
    """The default schedule of :class:`dcao.DCAO`: at most 10 % of all gradient evaluations.

    :class:`Thinning`, which costs that or less in runs of 165 steps and more; a run that is known to be shorter is
    probed by :class:`Overhead`, at steps 0, 18, 27, 36 and so on.

    Args:
        total_steps: Training steps of the run; None if that is not known.

    Example:
        >>> usual(100)
        Overhead(share=0.1)
    """
    return Overhead(0.1) if total_steps is not None and total_steps < SHORT_RUN else Thinning()


@dataclass(frozen=True)
class _FromFunction(Schedule):
    """A schedule from a plain function."""

    function: Callable[[int, float], bool]

    def __call__(self, step: int, cost: float) -> bool:
        return self.function(step, cost)


def as_schedule(every: ScheduleLike | None, default: Schedule | None) -> Schedule | None:
    """A schedule, an interval or a function ``(step, cost) -> bool`` as a schedule; ``default`` for None.

    Example:
        >>> as_schedule(10, default=None)
        Every(interval=10)
    """
    if every is None or isinstance(every, Schedule):
        return default if every is None else every
    if isinstance(every, type):
        name = every.__name__
        raise TypeError(f"every must be a number of steps or a schedule, got the class {name}; call it, as in {name}()")
    return _FromFunction(every) if callable(every) else Every(every)
