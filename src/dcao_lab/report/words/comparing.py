"""Sentences on who won against whom, by how much, how soon, and from where."""

import math
from collections.abc import Sequence
from statistics import median

from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison, best_without_dcao
from dcao_lab.report.analysis.results import Result
from dcao_lab.report.analysis.untuned import LIMITS, Untuned
from dcao_lab.report.analysis.view import Place, ignores_lr, is_literal, ranking
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.words.measured import ALPHA
from dcao_lab.workloads import WorkloadInfo


def task_sentences(numbers: Numbers, task: str) -> list[str]:
    """What happened on one task, under its own conditions."""
    best = _best(numbers, task)
    if best is None:
        return []
    info, arm = numbers.view.infos[task], best.place.arm
    opening = (
        f"Best: {numbers.title(arm)}, {formats.metric(info, best.median)} {formats.metric_title(info)} "
        f"(median of {len(best.values)})."
    )
    against = [c for c in numbers.comparisons if c.task == task and c.variation is None and "best other" in c.kinds]
    return [opening, *(_versus(numbers, c) for c in against[:4])]


def winners(numbers: Numbers) -> str:
    """On how many workloads the best median is DCAO's, and on which it is not."""
    bests = {task: best for task in numbers.view.tasks if (best := _best(numbers, task)) and best.median is not None}
    rivals = [task for task in bests if best_without_dcao(numbers.view, numbers.results, task)]
    if not rivals or not any(numbers.view.is_wrapped(place.arm) for place in numbers.results):
        return ""
    won = [task for task in rivals if numbers.view.is_wrapped(bests[task].place.arm)]
    lost = [task for task in rivals if task not in won]
    by_arm: dict[str, list[str]] = {}
    for task in lost:
        by_arm.setdefault(numbers.title(bests[task].place.arm), []).append(numbers.view.infos[task].title)
    spelled = [f"{title} ({formats.joined(*workloads)})" for title, workloads in by_arm.items()]
    losses = f"; elsewhere the best is {formats.listed(spelled)}" if lost else ""
    named = f" ({formats.joined(*(numbers.view.infos[task].title for task in won))})" if won and lost else ""
    of = f"{len(won)} of {formats.counted(len(rivals), 'workload')}"
    return f"DCAO has the best median on {of}{named}{losses}."


def against_references(numbers: Numbers) -> list[str]:
    """How arms do against their references: DCAO against bare optimizers, and the others."""
    pairs = [c for c in numbers.comparisons if "reference" in c.kinds and c.gain is not None]
    groups: dict[str, list[ArmComparison]] = {}
    for c in pairs:
        groups.setdefault(_kind(numbers, c), []).append(c)
    return [_tally(numbers, group, name) for name, group in sorted(groups.items())]


def _kind(numbers: Numbers, c: ArmComparison) -> str:
    if not numbers.view.is_wrapped(c.arm) or numbers.view.is_wrapped(c.other):
        return "Other arms against their reference"
    is_proposal = is_literal(numbers.view.study.arm(c.arm))
    return "Literal DCAO against the bare optimizer" if is_proposal else "DCAO against the bare optimizer"


def against_the_best(numbers: Numbers) -> str:
    """The best DCAO arm of each workload against the best arm without."""
    group = []
    for task in numbers.view.tasks:
        own = [c for c in numbers.comparisons if c.task == task and "best other" in c.kinds and c.gain is not None]
        if own:
            group.append(max(own, key=_gain))
    if not group:
        return ""
    spelled = [
        f"{formats.difference(numbers.view.infos[c.task], c.found.difference)} "
        f"{_unit(numbers.view.infos[c.task])} on {numbers.view.infos[c.task].title} ({c.verdict})"
        for c in group
    ]
    return f"The best DCAO arm minus the best arm without DCAO: {formats.listed(spelled)}."


def speed(numbers: Numbers) -> str:
    """Times to target against the reference, where both have a median."""
    ratios, missed, gained = [], 0, 0
    for place, own in numbers.reachings.items():
        reference = numbers.view.study.arm(place.arm).reference
        other = numbers.reachings.get(Place(task=place.task, arm=reference)) if reference else None
        if other is None or not numbers.view.is_wrapped(place.arm) or numbers.view.is_wrapped(other.arm):
            continue
        if math.isfinite(own.typical) and math.isfinite(other.typical):
            ratios.append(own.typical / other.typical)
        missed += math.isinf(own.typical) and math.isfinite(other.typical)
        gained += math.isfinite(own.typical) and math.isinf(other.typical)
    alone = f"DCAO alone reaches it in {gained}, the bare optimizer alone in {missed}."
    if not ratios:
        return f"Speed: there is no comparison where both reach the target; {alone}" if missed or gained else ""
    return (
        f"Speed: to the target DCAO needs {formats.ratio(median(ratios))} times the gradient evaluations of the bare "
        f"optimizer (median of {formats.counted(len(ratios), 'comparison')} where both reach it; fewer in "
        f"{sum(ratio < 1 for ratio in ratios)}); {alone}"
    )


def _best(numbers: Numbers, task: str) -> Result | None:
    found = [r for place, r in numbers.results.items() if place.task == task and place.variation is None]
    return max(found, key=lambda r: ranking(numbers.view.infos[task])(r.median), default=None)


def _tally(numbers: Numbers, group: Sequence[ArmComparison], name: str) -> str:
    better, worse = sum(_gain(c) > 0 for c in group), sum(_gain(c) < 0 for c in group)
    clear = [sum(c.verdict == verdict for c in group) for verdict in ("better", "worse")]
    return (
        f"{name}: the mean difference is in favour in {better} and against in {worse} of "
        f"{formats.counted(len(group), 'comparison')}; its 95{formats.PERCENT} interval leaves out zero in "
        f"{clear[0]} in favour and {clear[1]} against; "
        f"{_significance(group)}."
        f"{_extremes(numbers, group)}"
    )


def _significance(group: Sequence[ArmComparison]) -> str:
    """How many differences are more than chance explains, or that no number of them could be."""
    if 2.0 ** (1 - max(c.found.num_pairs for c in group)) > ALPHA:
        return "there are too few seeds for a test"
    certain = sum(c.is_certain for c in group)
    return f"{certain} {'is' if certain == 1 else 'are'} significant after Holm's correction"


def _extremes(numbers: Numbers, group: Sequence[ArmComparison]) -> str:
    """The largest gain and loss among the accuracies, whose differences are in one unit."""
    same = [c for c in group if numbers.view.infos[c.task].metric == "accuracy"]
    if not same:
        return ""
    best, worst = max(same, key=_gain), min(same, key=_gain)
    gain = f" Largest gain in accuracy: {_named(numbers, best)}" if _gain(best) > 0 else ""
    loss = f"{'; largest' if gain else ' Largest'} loss: {_named(numbers, worst)}" if _gain(worst) < 0 else ""
    return f"{gain}{loss}." if gain or loss else ""


def _gain(c: ArmComparison) -> float:
    return 0.0 if c.gain is None else c.gain


def _named(numbers: Numbers, c: ArmComparison) -> str:
    info = numbers.view.infos[c.task]
    changed = f", {formats.variation(c.variation)}" if c.variation else ""
    return f"{formats.difference(info, c.gain)} points ({numbers.title(c.arm)}, {info.title}{changed})"


def _unit(info: WorkloadInfo) -> str:
    return formats.difference_unit(info) + ("" if info.higher_is_better else " (less is better)")


def _versus(numbers: Numbers, c: ArmComparison) -> str:
    info = numbers.view.infos[c.task]
    interval = formats.interval(info, c.found.interval)
    return (
        f"{numbers.title(c.arm)} minus {numbers.title(c.other)}, the best without DCAO: "
        f"{formats.difference(info, c.found.difference)} {formats.difference_unit(info)} "
        f"({interval}: {c.verdict})."
    )


def untuned(numbers: Numbers) -> list[str]:
    """How often each arm that nobody tuned is as good as the best of each sweep.

    Where DCAO is among them the others have no sentence of their own: the table of cells has them.
    """
    wrapped = [one for one in numbers.untuned if numbers.view.is_wrapped(one.arm)]
    by_arm: dict[str, list[Untuned]] = {}
    for one in wrapped or numbers.untuned:
        by_arm.setdefault(one.arm, []).append(one)
    return [_untuned(numbers, arm, found) for arm, found in by_arm.items()]


def _untuned(numbers: Numbers, arm: str, found: list[Untuned]) -> str:
    lrs = [lr for one in found for lr, _ in one.starts]
    against = []
    for other in dict.fromkeys(one.other for one in found):
        own = [one for one in found if one.other == other]
        swept = max(one.num_swept for one in own)
        against.append(
            f"the best of {swept} with {numbers.title(other)} on {sum(one.is_within for one in own)} of "
            f"{formats.counted(len(own), 'workload')}"
        )
    is_any = len(set(lrs)) == 1 and all(ignores_lr(run.config) for run in numbers.view.runs(found[0].task, arm))
    where = "whatever learning rate it is given" if is_any else _from_where(lrs)
    cost = median(one.cost_ratio for one in found)
    return (
        f"Untuned, {numbers.title(arm)} is, {where}, as good as {formats.listed(against)} (to {LIMITS}); "
        f"such a sweep costs {formats.significant(cost)} times the one run."
    )


def _from_where(lrs: list[float]) -> str:
    first, last = formats.learning_rate(min(lrs)), formats.learning_rate(max(lrs))
    if first == last:
        return f"from the learning rate {first} that it was given"
    return f"from the worst initial learning rate between {first} and {last}"
