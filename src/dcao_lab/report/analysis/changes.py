"""What each arm gains over its reference, over workloads and conditions: in shares, which have one unit for all."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median

from dcao_lab.report.analysis.results import Results
from dcao_lab.report.analysis.view import StudyView
from dcao_lab.study.config import Arm


@dataclass(frozen=True, kw_only=True)
class Change:
    """An arm against its reference, wherever both were run.

    Attributes:
        arm: Name of the arm.
        reference: Name of what it changes.
        gains: How much better its median is, as a share of the reference's, one for each workload and condition; -1
            where it alone diverged, 1 where its reference alone did, and 0 where both did.
        median: Their median.
    """

    arm: str
    reference: str
    gains: tuple[float, ...]
    median: float


def changes(view: StudyView, results: Results) -> tuple[Change, ...]:
    """The arms that have a reference, in the study's order; no arm that was never run where its reference was."""
    found = ((arm, tuple(_gains(view, results, arm))) for arm in view.study.arms if arm.reference is not None)
    return tuple(
        Change(arm=arm.name, reference=arm.reference, gains=gains, median=median(gains))
        for arm, gains in found
        if gains and arm.reference is not None
    )


def _gains(view: StudyView, results: Results, arm: Arm) -> Iterator[float]:
    assert arm.reference is not None, "asked for only of arms that have one"
    for place, result in results.items():
        other = results.get(replace(place, arm=arm.reference))
        if place.arm == arm.name and other is not None:
            sign = 1.0 if view.infos[place.task].higher_is_better else -1.0
            yield _gain(result.median, other.median, sign)


def _gain(own: float | None, other: float | None, sign: float) -> float:
    if own is None or other is None:
        return float((own is not None) - (other is not None))
    return sign * (own - other) / abs(other) if other else sign * (own - other)
