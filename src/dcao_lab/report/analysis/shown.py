"""Which arms and which conditions a figure shows: as many as can be told apart."""

from collections import Counter
from collections.abc import Collection, Iterator
from statistics import mean

from dcao_lab.report.analysis.results import Results
from dcao_lab.report.analysis.view import Runs, StudyView, is_literal
from dcao_lab.runs.result import StoredRun
from dcao_lab.study.config import Arm, StudyConfig, Variation

MOST_LEADING = 8
NUM_BEST = 2  # places kept for the best of all, however many references there are

Parts = dict[str, list[str]]  # names of arms by title; a single part has none


def leading(view: StudyView, results: Results) -> tuple[str, ...]:
    """Names of the arms that a crowded figure shows, in the study's order; all, where they are few.

    What others are compared with comes first, each with the best of what DCAO makes of it; then the best by mean rank
    over workloads and conditions. They are the same in every figure, so that one legend does for all panels.
    """
    names = [arm.name for arm in view.study.arms]
    if len(names) <= MOST_LEADING:
        return tuple(names)
    best = _best_first(view, results)
    pairs = list(dict.fromkeys(_pairs(view, best)))[: MOST_LEADING - NUM_BEST]
    chosen = list(dict.fromkeys([*pairs, *best, *names]))[:MOST_LEADING]
    return tuple(name for name in names if name in chosen)


def _best_first(view: StudyView, results: Results) -> list[str]:
    ranks: dict[str, list[int]] = {}
    for place, result in results.items():
        ranks.setdefault(place.arm, []).append(result.rank)
    return sorted(_unlike(view, results), key=lambda name: mean(ranks[name]))


def _unlike(view: StudyView, results: Results) -> list[str]:
    """The arms, without those whose every run went like another's: an ablation has its default under many names.

    Like ends are not enough: of one seed, many arms end with the same accuracy.
    """
    courses: dict[tuple[object, ...], str] = {}
    for arm in view.study.arms:
        places = [place for place in results if place.arm == arm.name]
        own = tuple((p.task, p.variation, run.config.seed, _course(run)) for p in places for run in view.finals[p])
        if own:
            courses.setdefault(own, arm.name)
    return list(courses.values())


def _course(run: StoredRun) -> str:
    """All numbers of a run's evaluations but the time, which no run repeats; in words, as nan is not equal to nan."""
    return repr([{**vars(point), "seconds": None} for point in run.points])


def _pairs(view: StudyView, best: list[str]) -> Iterator[str]:
    """References, the most referred to first, each with the best DCAO arm that it is the reference of.

    The literal algorithm stands in only where there is no other: what is recommended is what a reader looks for.
    """
    times = Counter(arm.reference for arm in view.study.arms if arm.reference is not None)
    for reference, _ in times.most_common():
        yield reference
        own = [name for name in best if view.is_wrapped(name) and view.study.arm(name).reference == reference]
        own.sort(key=lambda name: is_literal(view.study.arm(name)))
        yield from own[:1]


def conditions(view: StudyView, task: str, runs: Runs) -> list[Variation | None]:
    """The workload's own, or else a few values of what varies first: its smallest, middle and largest."""
    present = {place.variation for place in runs if place.task == task}
    if None in present or not present:
        return [None] if present else []
    ordered = [variation for variation in view.study.variations if variation in present]
    first = sorted((v for v in ordered if v.axis == ordered[0].axis), key=lambda v: v.value)
    return [first[i] for i in sorted({0, (len(first) - 1) // 2, len(first) - 1})]


def parts(study: StudyConfig, arms: Collection[str], most: int) -> Parts:
    """Of more than ``most`` arms those of each group, with the references of its arms; of few, all in one part."""
    present = [arm for arm in study.arms if arm.name in arms]
    groups = list(dict.fromkeys(arm.group for arm in present))
    if len(present) <= most or len(groups) < 2:
        return {"": [arm.name for arm in present]}
    return {group or "others": _with_references(present, group) for group in groups}


def families(study: StudyConfig, arms: Collection[str], most: int) -> Parts:
    """The same where every arm's reference is in its own group; where groups are no such families, all in one part."""
    group_of = {arm.name: arm.group for arm in study.arms if arm.name in arms}
    are_families = "" not in group_of.values() and all(
        arm.reference is None or group_of.get(arm.reference) == arm.group for arm in study.arms if arm.name in arms
    )
    return parts(study, arms, most if are_families else len(group_of))


def _with_references(present: list[Arm], group: str) -> list[str]:
    members = [arm for arm in present if arm.group == group]
    shown = {arm.name for arm in members} | {arm.reference for arm in members}
    return [arm.name for arm in present if arm.name in shown]
