"""Arms against each other, paired by seed, corrected for how many comparisons the report makes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dcao_lab.report.analysis.results import Results, scores, worst_score
from dcao_lab.report.analysis.view import ArmOnTask, Place, StudyView, ranking
from dcao_lab.statistics import Comparison, compare, holm
from dcao_lab.study.config import Variation

MOST_CONDITIONS = 4  # so many stand side by side; of more, the lines of the sweeps are the figure to read

Kind = Literal["reference", "best other", "AdamW"]
Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True, kw_only=True)
class ArmComparison(ArmOnTask):
    """One arm against another on one task.

    Attributes:
        variation: Conditions; None: the workload's own.
        other: Name of the arm that it is compared with.
        kinds: Why: the arm's reference, the best arm without DCAO (chosen by these same runs), or AdamW.
        gain: Mean difference in the direction that is better; None without pairs.
        found: The statistics; their difference is arm minus other in the metric's own unit.
        verdict: What the interval says: ``better`` or ``worse`` if it leaves out zero.
        is_certain: The p-value after Holm's correction is at most 0.05.
    """

    variation: Variation | None
    other: str
    kinds: tuple[Kind, ...]
    gain: float | None
    found: Comparison
    verdict: Verdict
    is_certain: bool


def comparisons(view: StudyView, results: Results) -> tuple[ArmComparison, ...]:
    """Every comparison of the report; they are one family for Holm's correction."""
    found = [
        _compare(view, results, *pair, tuple(kinds))
        for task in view.tasks
        for variation in view.variations(task)
        for pair, kinds in _pairs(view, results, task, variation).items()
    ]
    corrected = holm([comparison.found for comparison in found])
    return tuple(
        replace(c, found=f, is_certain=f.p_holm is not None and f.p_holm <= 0.05)
        for c, f in zip(found, corrected, strict=True)
    )


def gains(found: Sequence[ArmComparison], task: str) -> dict[Variation | None, list[ArmComparison]]:
    """The comparisons of a task with references, by conditions; empty where these are too many to draw."""
    by_conditions: dict[Variation | None, list[ArmComparison]] = {}
    for comparison in found:
        if comparison.task == task and "reference" in comparison.kinds and comparison.gain is not None:
            by_conditions.setdefault(comparison.variation, []).append(comparison)
    return by_conditions if len(by_conditions) <= MOST_CONDITIONS else {}


def best_without_dcao(view: StudyView, results: Results, task: str, variation: Variation | None = None) -> str | None:
    """The arm without DCAO whose median is best; None where there is none."""
    rank = ranking(view.infos[task])
    places = [Place(task=task, arm=arm.name, variation=variation) for arm in view.arms(task)]
    rivals = [place for place in places if place in results and not view.is_wrapped(place.arm)]
    return max(rivals, key=lambda place: rank(results[place].median)).arm if rivals else None


def _pairs(
    view: StudyView, results: Results, task: str, variation: Variation | None
) -> dict[tuple[Place, Place], list[Kind]]:
    """Which arms are compared with which, and why; under changed conditions each with its reference alone."""
    best = best_without_dcao(view, results, task, variation)
    adamw = next((arm.name for arm in view.study.arms if arm.optimizer == "adamw"), None)
    pairs: dict[tuple[Place, Place], list[Kind]] = {}
    for arm in view.arms(task):
        own = Place(task=task, arm=arm.name, variation=variation)
        rivals: list[tuple[str | None, Kind]] = [(arm.reference, "reference")]
        if view.is_wrapped(arm.name) and variation is None:
            rivals += [(best, "best other"), (adamw, "AdamW")]
        for name, kind in rivals:
            other = own if name is None else replace(own, arm=name)
            if other != own and own in results and other in results:
                pairs.setdefault((own, other), []).append(kind)
    return pairs


def _compare(view: StudyView, results: Results, own: Place, other: Place, kinds: tuple[Kind, ...]) -> ArmComparison:
    worst = worst_score(view, own.task)
    found = compare(scores(results[own], worst), scores(results[other], worst), names=(own.arm, other.arm))
    sign = 1.0 if view.infos[own.task].higher_is_better else -1.0
    return ArmComparison(
        task=own.task,
        variation=own.variation,
        arm=own.arm,
        other=other.arm,
        kinds=kinds,
        gain=None if found.difference is None else sign * found.difference,
        found=found,
        verdict=_verdict(found, sign),
        is_certain=False,
    )


def _verdict(found: Comparison, sign: float) -> Verdict:
    low, high = found.interval.low, found.interval.high
    if low is None or high is None or low <= 0.0 <= high:
        return "undecided"
    return "better" if sign * low > 0.0 else "worse"
