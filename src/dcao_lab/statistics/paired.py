"""The comparison of two arms that are paired by seed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dcao_lab.errors import LabError, look_up
from dcao_lab.statistics.bootstrap import Interval, Statistic, bootstrap_interval
from dcao_lab.statistics.checks import check_confidence

Scores = Mapping[int, float]
CENTERS: dict[str, Statistic] = {"mean": np.mean, "median": np.median}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How much two arms differ over the seeds that both have, and how certain that is.

    Attributes:
        first: Name of the arm that is compared.
        second: Name of the arm whose scores are subtracted.
        num_pairs: Number of seeds that both arms have.
        left_out: Seeds that only one of them has.
        center: ``mean`` or ``median``: what ``difference`` and ``interval`` are of.
        difference: Mean or median of first - second; None without pairs, or if a score is not finite.
        interval: Bootstrap interval of ``difference``.
        p_value: Two-sided p-value of Wilcoxon's signed-rank test without zero differences; None if there is nothing to
            test.
        p_holm: ``p_value`` after Holm's correction, which `holm` makes; None before.
        rank_biserial: Matched-pairs rank-biserial correlation (R+ - R-) / (R+ + R-), in [-1, 1]; 0 for equal arms.
        cohens_dz: Mean difference over the standard deviation of the differences; None if that is zero or undefined.
        test_status: ``ok``, or a sentence about why the test can say little or nothing.
    """

    first: str
    second: str
    num_pairs: int
    left_out: tuple[int, ...]
    center: str
    difference: float | None
    interval: Interval
    p_value: float | None
    p_holm: float | None = None
    rank_biserial: float | None
    cohens_dz: float | None
    test_status: str


def compare(
    first: Scores,
    second: Scores,
    *,
    names: tuple[str, str] = ("first", "second"),
    center: str = "mean",
    confidence: float = 0.95,
    num_resamples: int = 9999,
    generator: np.random.Generator | None = None,
) -> Comparison:
    """The comparison of two arms.

    Args:
        first: Scores of the first arm by seed.
        second: Scores of the second arm by seed, which are subtracted.
        names: Names of the two arms.
        center: ``"mean"`` or ``"median"`` of the differences.
        confidence: Nominal coverage of the interval; one minus the level of the test.
        num_resamples: Number of bootstrap resamples.
        generator: As for :func:`bootstrap_interval`.

    Raises:
        LabError: ``center`` is unknown, ``confidence`` is outside (0, 1), or both arms have the same name.

    Example:
        >>> found = compare({0: 3.0, 1: 5.0, 2: 4.0}, {0: 1.0, 1: 2.0, 2: 3.0})
        >>> found.difference, found.p_value, found.rank_biserial
        (2.0, 0.25, 1.0)
        >>> found.test_status
        '3 differing pair(s) cannot reach p <= 0.05: the smallest p is 0.25; 6 can'
    """
    function = look_up(CENTERS, center, "center")
    check_confidence(confidence)
    if names[0] == names[1]:
        raise LabError(f"the two arms must have different names, got {names[0]!r} twice; name what differs")
    seeds = sorted(set(first) & set(second))
    differences, size = _differences(first, second, seeds)
    if not seeds or not np.isfinite(size):
        difference, status = None, _nothing_to_compare(first, second, seeds, names)
        interval = Interval(low=None, high=None, confidence=confidence, status=status)
        p_value = rank_biserial = cohens_dz = None
    else:
        unit = 2.0 ** (math.frexp(size)[1] - 1)  # at most size; without it a perplexity of 1e200 overflows when squared
        differences, size = differences / unit, size / unit
        difference = float(function(differences)) * unit
        interval = bootstrap_interval(
            [differences], function, confidence=confidence, num_resamples=num_resamples, generator=generator
        ).scaled(unit)
        p_value, rank_biserial, status = _signed_rank(differences, size, 1.0 - confidence)
        cohens_dz = _cohens_dz(differences, size)
    return Comparison(
        first=names[0],
        second=names[1],
        num_pairs=len(seeds),
        left_out=tuple(sorted(set(first) ^ set(second))),
        center=center,
        difference=difference,
        interval=interval,
        p_value=p_value,
        rank_biserial=rank_biserial,
        cohens_dz=cohens_dz,
        test_status=status,
    )


def _differences(first: Scores, second: Scores, seeds: list[int]) -> tuple[np.ndarray, float]:
    """Differences, sorted so that a sum does not depend on their order, and the largest magnitude of the scores."""
    x = np.array([first[seed] for seed in seeds], dtype=float)
    y = np.array([second[seed] for seed in seeds], dtype=float)
    with np.errstate(invalid="ignore"):  # inf - inf
        return np.sort(x - y), float(np.max(np.abs([x, y]), initial=0.0))


def _nothing_to_compare(first: Scores, second: Scores, seeds: list[int], names: tuple[str, str]) -> str:
    if not seeds:
        return "no seed in common"
    for name, scores in zip(names, (first, second), strict=True):
        for seed in seeds:
            if not math.isfinite(scores[seed]):
                return f"{name!r} has the score {scores[seed]} at seed {seed}: compare times to a target instead"
    raise AssertionError("called without a reason")


def _signed_rank(differences: np.ndarray, size: float, alpha: float) -> tuple[float, float, str]:
    """Two-sided p-value, rank-biserial correlation and status.

    The differences 0.91 - 0.90 and 0.90 - 0.89 of two accuracies differ only in their last bits, and have to tie. A
    difference of rounded scores is wrong by at most 2 eps = 4e-16 of the largest score, and the 12th digit of a metric
    means nothing.
    """
    rounded = np.round(differences / size, 12) if size > 0.0 else differences
    nonzero = rounded[rounded != 0.0]
    if len(nonzero) == 0:
        return 1.0, 0.0, "all differences are zero"
    # the sum of positive ranks: scipy's statistic for the one-sided alternative
    positive = stats.wilcoxon(nonzero, alternative="greater").statistic
    p_value = stats.wilcoxon(nonzero).pvalue
    rank_biserial = 2.0 * positive / (len(nonzero) * (len(nonzero) + 1) / 2.0) - 1.0
    return float(p_value), float(rank_biserial), _power_status(len(nonzero), alpha)


def _power_status(num_nonzero: int, alpha: float) -> str:
    """Whether a signed-rank test of n differences can reach ``alpha``: its smallest two-sided p is 2^(1 - n).

    Under the null all 2^n patterns of signs are equally likely, and two of them have all signs equal.
    """
    needed = math.ceil(1.0 - math.log2(alpha) - 1e-9)  # 2^(1 - n) <= alpha; 1e-9: log2 rounds
    if num_nonzero >= needed:
        return "ok"
    smallest = 2.0 ** (1 - num_nonzero)
    return f"{num_nonzero} differing pair(s) cannot reach p <= {alpha:g}: the smallest p is {smallest:g}; {needed} can"


def _cohens_dz(differences: np.ndarray, size: float) -> float | None:
    if len(differences) < 2:
        return None
    deviation = np.std(differences, ddof=1)
    return None if deviation <= 1e-12 * size else float(np.mean(differences) / deviation)
