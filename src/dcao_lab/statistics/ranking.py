"""The ranking of several arms over several workloads, with the difference that chance can make (Demšar 2006)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from dcao_lab.errors import LabError
from dcao_lab.statistics.checks import check_confidence, common_workloads


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Mean ranks of arms, best first.

    Attributes:
        arms: Names of the arms, best first.
        mean_ranks: Mean rank of each arm, in the order of ``arms``; 1 is best, and ties share their mean rank.
        num_workloads: Number of workloads that the means are over.
        p_value: p-value of Friedman's test that all arms are alike; None if it is undefined.
        critical_difference: Nemenyi's critical difference: arms differ if their mean ranks are further apart.
        groups: The largest sets of two or more neighbouring arms that do not differ (the bars of the diagram).
        confidence: Confidence of the critical difference, for all pairs together.
        status: ``ok``, or a sentence about why there is no test.
    """

    arms: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    num_workloads: int
    p_value: float | None
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]
    confidence: float
    status: str


def rank_arms(
    scores: Mapping[str, Mapping[str, float]], *, higher_is_better: bool, confidence: float = 0.95
) -> Ranking:
    """The ranking of arms by their scores.

    Args:
        scores: One score for each arm and workload; an infinite one may represent a failure.
        higher_is_better: Whether a higher score is the better one.
        confidence: Confidence of the critical difference, between 0 and 1.

    Raises:
        LabError: There are fewer than two arms, an arm lacks a workload, or a score is nan.

    Example:
        >>> found = rank_arms({"a": {"x": 1.0, "y": 2.0}, "b": {"x": 3.0, "y": 4.0}}, higher_is_better=True)
        >>> found.arms, found.mean_ranks, round(found.critical_difference, 3)  # 1.960 sqrt(2 3 / (6 2))
        (('b', 'a'), (1.0, 2.0), 1.386)
    """
    check_confidence(confidence)
    table = _table(scores)  # (num_workloads, num_arms)
    ranks = stats.rankdata(-table if higher_is_better else table, axis=1)
    mean_ranks = ranks.mean(axis=0)
    order = np.argsort(mean_ranks, kind="stable")
    names = tuple(list(scores)[i] for i in order)
    sorted_ranks = tuple(float(mean_ranks[i]) for i in order)
    limit = _critical_difference(len(names), len(table), confidence)
    p_value, status = _friedman(ranks)
    return Ranking(
        arms=names,
        mean_ranks=sorted_ranks,
        num_workloads=len(table),
        p_value=p_value,
        critical_difference=limit,
        groups=_groups(names, sorted_ranks, limit),
        confidence=confidence,
        status=status,
    )


def _table(scores: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    workloads = common_workloads(scores)
    if len(scores) < 2:
        raise LabError(f"a ranking must have at least two arms, got {', '.join(scores)} alone; add one")
    for arm, row in scores.items():
        for workload, score in row.items():
            if math.isnan(score):
                raise LabError(f"scores must not be nan, but {arm!r} has it on {workload!r}; rank a failure by inf")
    return np.array([[row[workload] for row in scores.values()] for workload in workloads], dtype=float)


def _friedman(ranks: np.ndarray) -> tuple[float | None, str]:
    """Friedman's p-value and its status, from ranks because scores may be infinite; the result is the same."""
    if ranks.shape[1] < 3:
        return None, "Friedman's test needs three arms: compare two by the signed-rank test"
    if np.all(ranks == ranks[0, 0]):
        return None, "all arms tie on every workload"
    return float(stats.friedmanchisquare(*ranks.T).pvalue), "ok"


@cache  # the quantile is an integral that scipy inverts numerically
def _critical_difference(num_arms: int, num_workloads: int, confidence: float) -> float:
    """Demšar's eq. 5: q sqrt(k (k + 1) / (6 N)), q the studentized range's quantile over sqrt 2."""
    q = float(stats.studentized_range.ppf(confidence, num_arms, math.inf)) / math.sqrt(2.0)
    return q * math.sqrt(num_arms * (num_arms + 1) / (6.0 * num_workloads))


def _groups(names: tuple[str, ...], ranks: tuple[float, ...], limit: float) -> tuple[tuple[str, ...], ...]:
    groups, last_end = [], 0
    for start, rank in enumerate(ranks):
        end = sum(other <= rank + limit for other in ranks)
        if end > last_end and end - start > 1:  # otherwise it lies within the group before
            groups.append(names[start:end])
        last_end = max(last_end, end)
    return tuple(groups)
