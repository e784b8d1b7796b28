"""Time to a target that some runs never reached: they are censored, not left out."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dcao_lab.errors import LabError
from dcao_lab.statistics.checks import check_confidence, is_time


@dataclass(frozen=True, kw_only=True)
class TargetTimes:
    """When each run of an arm reached the target, or when it was last seen not to have.

    A run that diverged will never reach it: its time is the whole budget, as if it had run to the end.

    Attributes:
        arm: Its name.
        times: One a run: time to the target, or time at which the run ended without it.
        reached: Whether the run reached the target.
    """

    arm: str
    times: tuple[float, ...]
    reached: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be times."""
        if len(self.times) != len(self.reached):
            raise LabError(
                f"times and reached must be equally long, got {len(self.times)} and {len(self.reached)} "
                f"for {self.arm!r}; give one of each a run"
            )
        if not self.times:
            raise LabError(f"there must be at least one run, got none for {self.arm!r}; leave the arm out")
        for time in self.times:
            if not is_time(time) or math.isinf(time):
                raise LabError(
                    f"times must be positive and finite, got {time} for {self.arm!r}; "
                    "a run that missed the target has its budget as time and reached=False"
                )


@dataclass(frozen=True, kw_only=True)
class TargetMedian:
    """Kaplan-Meier median of the time to target.

    Attributes:
        arm: Its name.
        num_runs: How many there were.
        num_reached: How many reached the target.
        median: First time by which at least half are estimated to have reached it; inf if that is never seen.
        low: Lower end of its interval.
        high: Upper end; inf where the data set no bound.
        confidence: Nominal coverage.
        status: ``ok``, or in words what could not be estimated.
    """

    arm: str
    num_runs: int
    num_reached: int
    median: float
    low: float
    high: float
    confidence: float
    status: str


@dataclass(frozen=True, kw_only=True)
class LogRank:
    """Log-rank test that two arms reach the target equally fast.

    Attributes:
        first: Name of one arm.
        second: Name of the other.
        statistic: Standard normal if they do; positive where the first arm is the faster. None if undefined.
        p_value: Two-sided, None if undefined.
        status: ``ok``, or in words why there is no test.
    """

    first: str
    second: str
    statistic: float | None
    p_value: float | None
    status: str


def median_time_to_target(runs: TargetTimes, *, confidence: float = 0.95) -> TargetMedian:
    """The median time to target and the times whose log-log interval of survival contains one half.

    (Brookmeyer and Crowley 1982.) Once every run has reached the target, the interval of survival is undefined
    and sets no bound: 3 runs have no upper bound, as all 3 lie below the median once in 8 times.

    Example:
        >>> found = median_time_to_target(TargetTimes(arm="a", times=(1.0, 2.0, 3.0), reached=(True, True, False)))
        >>> found.median, found.high
        (2.0, inf)
    """
    check_confidence(confidence)
    survival = stats.ecdf(_censored(runs)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the interval at survival 0 or 1 is nan: no bound
        band = survival.confidence_interval(confidence, method="log-log")
    median, low, high = (
        _first_at_most_half(curve.quantiles, curve.probabilities) for curve in (survival, band.low, band.high)
    )
    if not any(runs.reached):
        status = "no run reached the target"
    elif math.isinf(median):
        status = "fewer than half are estimated to reach the target"
    else:
        status = "ok" if math.isfinite(high) else "too few runs for an upper bound"
    return TargetMedian(
        arm=runs.arm,
        num_runs=len(runs.times),
        num_reached=sum(runs.reached),
        median=median,
        low=min(low, median),  # low is undefined where all reach it at once
        high=high,
        confidence=confidence,
        status=status,
    )


def log_rank(first: TargetTimes, second: TargetTimes) -> LogRank:
    """The log-rank test of two arms.

    Raises:
        LabError: Both arms have one name.

    Example:
        >>> never = {"times": (9.0, 9.0), "reached": (False, False)}
        >>> log_rank(TargetTimes(arm="a", **never), TargetTimes(arm="b", **never)).status
        'no run of either arm reached the target'
    """
    if first.arm == second.arm:
        raise LabError(f"the two arms must have different names, got {first.arm!r} twice; name what differs")
    if not any(first.reached) and not any(second.reached):
        return _untested(first, second, "no run of either arm reached the target")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # 0 / 0 is the status below
        found = stats.logrank(_censored(first), _censored(second))
    if not math.isfinite(found.statistic):
        return _untested(first, second, "all runs still at risk reached the target at once: nothing to compare")
    return LogRank(
        first=first.arm,
        second=second.arm,
        statistic=float(found.statistic),
        p_value=float(found.pvalue),
        status="ok",
    )


def _untested(first: TargetTimes, second: TargetTimes, status: str) -> LogRank:
    return LogRank(first=first.arm, second=second.arm, statistic=None, p_value=None, status=status)


def _censored(runs: TargetTimes) -> stats.CensoredData:
    return stats.CensoredData.right_censored(np.array(runs.times, dtype=float), ~np.array(runs.reached, dtype=bool))


def _first_at_most_half(times: np.ndarray, survival: np.ndarray) -> float:
    below = times[survival <= 0.5 + 1e-12]  # the product of fractions rounds
    return float(below[0]) if len(below) else math.inf
