"""Bootstrap intervals that say when they could not be had."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from dcao_lab.statistics.checks import check_confidence

Statistic = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval, and how far to trust it.

    Attributes:
        low: Lower end; None where there is no interval.
        high: Upper end; None where there is no interval.
        confidence: Nominal coverage.
        status: ``ok``, or in words what is unusual about it.
    """

    low: float | None
    high: float | None
    confidence: float
    status: str

    def scaled(self, unit: float) -> "Interval":
        """The same in another unit: both ends times ``unit``.

        Example:
            >>> Interval(low=1.0, high=2.0, confidence=0.95, status="ok").scaled(100.0).high
            200.0
        """
        if self.low is None or self.high is None:
            return self
        return replace(self, low=self.low * unit, high=self.high * unit)


def bootstrap_interval(
    samples: Sequence[np.ndarray],
    statistic: Statistic,
    *,
    confidence: float = 0.95,
    num_resamples: int = 9999,
    generator: np.random.Generator | None = None,
) -> Interval:
    """BCa interval of ``statistic(*samples, axis=-1)``; each sample is resampled by itself (a stratum).

    A bootstrap knows no more spread than its sample has: for the mean of n normal values a 95 % interval covers
    as often as Student's t (n - 1 degrees of freedom) is within 1.96 sqrt((n - 1) / n): 85 % at 5, 90 % at 10, 94 %
    at 50. Below 10 values the status says so.

    Args:
        samples: One array a stratum. Their order within a stratum does not matter.
        statistic: Vectorised function of the strata with a keyword ``axis``.
        confidence: Nominal coverage.
        num_resamples: Bootstrap resamples; 9999 is scipy's default.
        generator: Source of the resamples; None is a fresh one with seed 0, so that a report can be made twice.

    Example:
        >>> bootstrap_interval([np.array([2.0, 2.0, 2.0])], np.mean).status
        'the values do not vary'
    """
    check_confidence(confidence)
    strata = [np.sort(np.asarray(sample, dtype=float)) for sample in samples]  # the seed must not see their order
    smallest = min(len(stratum) for stratum in strata)
    if smallest < 2:
        return Interval(low=None, high=None, confidence=confidence, status=f"{smallest} value: no interval")
    if all(np.ptp(stratum) == 0.0 for stratum in strata):
        value = float(statistic(*strata, axis=-1))
        return Interval(low=value, high=value, confidence=confidence, status="the values do not vary")
    generator = np.random.default_rng(0) if generator is None else generator
    return _with_fallback(strata, statistic, confidence, num_resamples, generator)


def _with_fallback(
    strata: list[np.ndarray],
    statistic: Statistic,
    confidence: float,
    num_resamples: int,
    generator: np.random.Generator,
) -> Interval:
    """BCa; the percentile interval where BCa's acceleration is 0/0, as for a median among ties."""
    few = min(len(stratum) for stratum in strata) < 10
    status = "fewer than 10 values: too narrow" if few else "ok"
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # what they would say is in the status
            found = stats.bootstrap(
                strata,
                statistic,
                n_resamples=num_resamples,
                confidence_level=confidence,
                method=method,
                vectorized=True,
                rng=generator,
            ).confidence_interval
        if math.isfinite(found.low) and math.isfinite(found.high):
            break
        status = "BCa is undefined among ties: percentile interval"
    return Interval(low=float(found.low), high=float(found.high), confidence=confidence, status=status)
