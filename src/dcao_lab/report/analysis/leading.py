"""Which arms a crowded figure shows: as many as can be told apart."""

from collections import Counter
from collections.abc import Iterator
from statistics import mean

from dcao_lab.report.analysis.results import Results
from dcao_lab.report.analysis.view import StudyView

MOST_LEADING = 8
NUM_BEST = 2  # places kept for the best of all, however many references there are


def leading(view: StudyView, results: Results) -> tuple[str, ...]:
    """Names of the arms to show, in the study's order; all, where they are few.

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
    """The arms, without those whose every run ended like another's: an ablation has its default under many names."""
    ends: dict[tuple, str] = {}
    for arm in view.study.arms:
        own = tuple((p.task, p.variation, *r.values.items()) for p, r in results.items() if p.arm == arm.name)
        if own:
            ends.setdefault(own, arm.name)
    return list(ends.values())


def _pairs(view: StudyView, best: list[str]) -> Iterator[str]:
    """References, the most referred to first, each with the best DCAO arm that it is the reference of.

    The literal algorithm stands in only where there is no other: what is recommended is what a reader looks for.
    """
    times = Counter(arm.reference for arm in view.study.arms if arm.reference is not None)
    for reference, _ in times.most_common():
        yield reference
        own = [name for name in best if view.is_wrapped(name) and view.study.arm(name).reference == reference]
        own.sort(key=lambda name: view.study.arm(name).optimizer.startswith("dcao-literal"))
        yield from own[:1]
