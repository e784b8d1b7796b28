"""Times to a target, in which runs that never reached it count as censored instead of being left out."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dcao_lab.errors import LabError
from dcao_lab.statistics.checks import check_confidence, is_time


@dataclass(frozen=True, kw_only=True)
class TargetTimes:
    """For each run of an arm the time at which it reached the target, or ended without reaching it.

    A run that diverged would never have reached it, so its time is the whole budget, as if it had run to the end.

    Attributes:
        arm: Name of the arm.
        times: For each run the time to the target, or the time at which it ended without reaching it.
        reached: For each run whether it reached the target.

    Raises:
        LabError: There is no run, the two differ in length, or a time is not positive and finite.
    """

    arm: str
    times: tuple[float, ...]
    reached: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Check that there is a run, and that each has a time."""
        if len(self.times) != len(self.reached):
            raise LabError(
                f"times and reached must be equally long, got {len(self.times)} and {len(self.reached)} "
                f"for {self.arm!r}; give one of each for every run"
            )
        if not self.times:
            raise LabError(f"there must be at least one run, got none for {self.arm!r}; leave the arm out")
        for time in self.times:
            if not is_time(time) or math.isinf(time):
                raise LabError(
                    f"times must be positive and finite, got {time} for {self.arm!r}; "
                    "a run that missed the target has its budget as time and reached=False"
                )

    def censored(self) -> stats.CensoredData:
        """The times as scipy takes them, right-censored where the target was missed."""
        return stats.CensoredData.right_censored(self.times, np.logical_not(self.reached))


@dataclass(frozen=True, kw_only=True)
class TargetMedian:
    """Kaplan-Meier median of the time to target.

    Attributes:
        arm: Name of the arm.
        num_runs: Number of runs.
        num_reached: Number of runs that reached the target.
        median: First time by which an estimated half of the runs have reached the target; inf if there is none.
        low: Lower end of the interval of ``median``.
        high: Upper end of the interval; inf if the data set no bound.
        confidence: Nominal coverage of the interval.
        status: ``ok``, or a sentence about what could not be estimated.
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
    """The log-rank test of the hypothesis that two arms reach the target equally fast.

    Attributes:
        first: Name of one arm.
        second: Name of the other arm.
        statistic: Test statistic, standard normal under the hypothesis and positive if the first arm is faster; None if
            it is undefined.
        p_value: Two-sided p-value; None if it is undefined.
        status: ``ok``, or a sentence about why there is no test.
    """

    first: str
    second: str
    statistic: float | None
    p_value: float | None
    status: str


def median_time_to_target(runs: TargetTimes, *, confidence: float = 0.95) -> TargetMedian:
    """The median time to the target, and its interval by Brookmeyer and Crowley (1982).

    The interval has the times at which the log-log interval of survival contains one half. Where every run has reached
    the target, that interval is undefined and sets no bound. So 3 runs have no upper bound: with a probability of one
    in eight all three are below the median.

    Raises:
        LabError: ``confidence`` is outside (0, 1).

    Example:
        >>> found = median_time_to_target(TargetTimes(arm="a", times=(1.0, 2.0, 3.0), reached=(True, True, False)))
        >>> found.median, found.high
        (2.0, inf)
    """
    check_confidence(confidence)
    survival = stats.ecdf(runs.censored()).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # at survival 0 or 1 the interval is nan, which is no bound
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
        low=min(low, median),  # low is undefined if all reach it at once
        high=high,
        confidence=confidence,
        status=status,
    )


def log_rank(first: TargetTimes, second: TargetTimes) -> LogRank:
    """The log-rank test of two arms.

    Raises:
        LabError: Both arms have the same name.

    Example:
        >>> never = {"times": (9.0, 9.0), "reached": (False, False)}
        >>> log_rank(TargetTimes(arm="a", **never), TargetTimes(arm="b", **never)).status
        'no run of either arm reached the target'
    """
    if first.arm == second.arm:
        raise LabError(f"the two arms must have different names, got {first.arm!r} twice; name what differs")
    statistic = p_value = None
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # 0 / 0 is the status below
        found = stats.logrank(first.censored(), second.censored())
    if math.isfinite(found.statistic):
        statistic, p_value, status = float(found.statistic), float(found.pvalue), "ok"
    elif any(first.reached) or any(second.reached):
        status = "all runs still at risk reached the target at once: nothing to compare"
    else:
        status = "no run of either arm reached the target"
    return LogRank(first=first.arm, second=second.arm, statistic=statistic, p_value=p_value, status=status)


def _first_at_most_half(times: np.ndarray, survival: np.ndarray) -> float:
    below = times[survival <= 0.5 + 1e-12]  # with a tolerance, because survival is a rounded product of fractions
    return float(below[0]) if len(below) else math.inf
