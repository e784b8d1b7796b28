"""Interquartile mean over workloads and seeds (Agarwal et al. 2021)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dcao_lab.errors import LabError
from dcao_lab.statistics.bootstrap import Interval, bootstrap_interval


@dataclass(frozen=True, kw_only=True)
class InterquartileMean:
    """The mean of the middle half of all scores, and its interval.

    Attributes:
        value: Mean of the scores without the lowest and the highest quarter (each rounded down to whole scores).
        interval: Bootstrap interval of ``value``; seeds are resampled within their workload.
        num_scores: Number of scores, before any is dropped.
    """

    value: float
    interval: Interval
    num_scores: int


def interquartile_mean(
    scores: Mapping[str, Sequence[float]],
    *,
    confidence: float = 0.95,
    num_resamples: int = 9999,
    generator: np.random.Generator | None = None,
) -> InterquartileMean:
    """The interquartile mean of one arm's scores over workloads and seeds.

    Args:
        scores: For each workload the score of each seed. Normalise them, so that a score means the same on every
            workload, and give a diverged run the worst score.
        confidence: Nominal coverage of the interval, between 0 and 1.
        num_resamples: Number of bootstrap resamples.
        generator: As for :func:`bootstrap_interval`.

    Raises:
        LabError: There are no scores, or one is not finite.

    Example:
        >>> interquartile_mean({"a": [0.0, 1.0], "b": [2.0, 90.0]}).value  # 0 and 90 are dropped
        1.5
    """
    _check(scores)
    samples = [np.asarray(values, dtype=float) for values in scores.values()]
    interval = bootstrap_interval(
        samples, _pooled_trimmed_mean, confidence=confidence, num_resamples=num_resamples, generator=generator
    )
    value = float(_pooled_trimmed_mean(*samples))
    return InterquartileMean(value=value, interval=interval, num_scores=sum(map(len, samples)))


def _pooled_trimmed_mean(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    mean: np.ndarray = stats.trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)
    return mean


def _check(scores: Mapping[str, Sequence[float]]) -> None:
    if not scores:
        raise LabError("there must be at least one workload, got none; pass scores by workload")
    for workload, values in scores.items():
        if len(values) == 0:
            raise LabError(f"every workload must have a score, but {workload!r} has none; leave it out")
        for value in values:
            if not math.isfinite(value):
                raise LabError(
                    f"scores must be finite, got {value} on {workload!r}; give a diverged run the worst score"
                )
