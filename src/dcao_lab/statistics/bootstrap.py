"""Bootstrap confidence intervals, with a status for data from which there is none."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from dcao_lab.statistics.checks import check_confidence

Statistic = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval, and how far to trust it.

    Attributes:
        low: Lower end; None if there is no interval.
        high: Upper end; None if there is no interval.
        confidence: Nominal coverage, between 0 and 1.
        status: ``ok``, or a sentence about what is unusual about it.
    """

    low: float | None
    high: float | None
    confidence: float
    status: str

    def scaled(self, unit: float) -> "Interval":
        """The interval in another unit: both ends are multiplied by ``unit``.

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
    """BCa interval of ``statistic(*samples, axis=-1)``; each sample is a stratum and resampled on its own.

    A bootstrap interval from few values is too narrow. For the mean of n normal values a 95 % interval covers the truth
    as often as Student's t with n - 1 degrees of freedom is within 1.96 sqrt((n - 1) / n): in 85 % of all cases at n =
    5, 90 % at 10 and 94 % at 50. Below 10 values the status says so.

    Args:
        samples: One array for each stratum. The order of its values does not matter.
        statistic: Vectorised function of the strata with a keyword ``axis``.
        confidence: Nominal coverage, between 0 and 1.
        num_resamples: Number of bootstrap resamples; 9999 is scipy's default.
        generator: Source of the resamples; None: a new one with seed 0, so that a report has the same numbers each
            time.

    Raises:
        LabError: ``confidence`` is outside (0, 1).

    Example:
        >>> bootstrap_interval([np.array([2.0, 2.0, 2.0])], np.mean).status
        'the values do not vary'
    """
    check_confidence(confidence)
    strata = [np.sort(np.asarray(sample, dtype=float)) for sample in samples]  # resamples must not see the order
    smallest = min(len(stratum) for stratum in strata)
    if smallest < 2:
        return Interval(low=None, high=None, confidence=confidence, status=f"{smallest} value: no interval")
    if all(np.ptp(stratum) == 0.0 for stratum in strata):
        value = float(statistic(*strata, axis=-1))
        return Interval(low=value, high=value, confidence=confidence, status="the values do not vary")
    generator = np.random.default_rng(0) if generator is None else generator
    resample = partial(
        stats.bootstrap, strata, statistic, n_resamples=num_resamples, confidence_level=confidence, rng=generator
    )
    return _with_fallback(resample, confidence, "fewer than 10 values: too narrow" if smallest < 10 else "ok")


def _with_fallback(resample: Callable[..., Any], confidence: float, status: str) -> Interval:
    """The BCa interval, or the percentile interval if BCa's acceleration is 0/0, as for a median among ties."""
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # the status says it
            found = resample(method=method).confidence_interval
        if math.isfinite(found.low) and math.isfinite(found.high):
            break
        status = "BCa is undefined among ties: percentile interval"
    return Interval(low=float(found.low), high=float(found.high), confidence=confidence, status=status)
