"""What happened, in sentences made from the numbers."""

import math
from collections.abc import Sequence
from statistics import median

from scipy import stats

from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison, best_without_dcao
from dcao_lab.report.analysis.results import Result
from dcao_lab.report.analysis.view import Place, ranking
from dcao_lab.report.numbers import Numbers

ALPHA = 0.05


def headlines(numbers: Numbers) -> list[str]:
    """The most important sentences: who won, against what, how certainly, how fast, from where, at what cost."""
    sentences = [
        _winners(numbers),
        *_against_references(numbers),
        _against_the_best(numbers),
        _speed(numbers),
        *_robustness(numbers),
        _cost(numbers),
        _certainty(numbers),
    ]
    return [sentence for sentence in sentences if sentence] or ["No run that counts is there yet."]


def task_sentences(numbers: Numbers, task: str) -> list[str]:
    """What happened on one task, under its own conditions."""
    best = _best(numbers, task)
    if best is None:
        return []
    info, arm = numbers.view.infos[task], best.place.arm
    opening = (
        f"Best: {title(numbers, arm)}, {formats.metric(info, best.median)} {formats.metric_title(info)} "
        f"(median of {len(best.values)})."
    )
    against = [c for c in numbers.comparisons if c.task == task and c.variation is None and "best other" in c.kinds]
    return [opening, *(_versus(numbers, c) for c in against[:4])]


def title(numbers: Numbers, arm: str) -> str:
    """What the report calls an arm."""
    return numbers.styles[arm].title


def coverage(num_pairs: int, confidence: float = 0.95) -> float:
    """How often a bootstrap interval of the mean of so many normal values covers it, instead of ``confidence``.

    As often as Student's t is within ``z sqrt((n - 1) / n)``.

    Example:
        >>> round(coverage(3), 2), round(coverage(10), 2)
        (0.75, 0.9)
    """
    limit = stats.norm.ppf(0.5 + confidence / 2) * math.sqrt((num_pairs - 1) / num_pairs)
    return float(2 * stats.t.cdf(limit, num_pairs - 1) - 1)


def _best(numbers: Numbers, task: str) -> Result | None:
    found = [r for place, r in numbers.results.items() if place.task == task and place.variation is None]
    return max(found, key=lambda r: ranking(numbers.view.infos[task])(r.median), default=None)


def _winners(numbers: Numbers) -> str:
    """On how many workloads the best median is DCAO's, and on which it is not."""
    bests = {task: _best(numbers, task) for task in numbers.view.tasks}
    bests = {task: best for task, best in bests.items() if best is not None and best.median is not None}
    rivals = [task for task in bests if best_without_dcao(numbers.view, numbers.results, task)]
    if not rivals or not any(numbers.view.is_wrapped(place.arm) for place in numbers.results):
        return ""
    won = [task for task in rivals if numbers.view.is_wrapped(bests[task].place.arm)]
    lost = [task for task in rivals if task not in won]
    spelled = [f"{numbers.view.infos[task].title} ({title(numbers, bests[task].place.arm)})" for task in lost]
    losses = f" It is not on {formats.listed(spelled)}." if lost else ""
    return f"The best median is a DCAO arm's on {len(won)} of {_workloads(len(rivals))}.{losses}"


def _against_references(numbers: Numbers) -> list[str]:
    pairs = [c for c in numbers.comparisons if "reference" in c.kinds and c.gain is not None]
    is_wrapped = numbers.view.is_wrapped
    steered = [c for c in pairs if is_wrapped(c.arm) and not is_wrapped(c.other)]
    others = [c for c in pairs if c not in steered]
    return [
        _tally(numbers, group, name)
        for group, name in ((steered, "DCAO against the bare optimizer"), (others, "The other arms against their reference"))
        if group
    ]


def _tally(numbers: Numbers, group: Sequence[ArmComparison], name: str) -> str:
    better, worse = sum(c.gain > 0 for c in group), sum(c.gain < 0 for c in group)
    clear = [sum(c.verdict == verdict for c in group) for verdict in ("better", "worse")]
    certain = sum(c.is_certain for c in group)
    return (
        f"{name}: the mean difference is in favour in {better} and against in {worse} of {_comparisons(len(group))}; "
        f"its 95{formats.PERCENT} interval leaves out zero in {clear[0]} in favour and {clear[1]} against; "
        f"{certain} {'is' if certain == 1 else 'are'} significant after Holm's correction."
        f"{_extremes(numbers, group)}"
    )


def _extremes(numbers: Numbers, group: Sequence[ArmComparison]) -> str:
    """The largest gain and loss among the accuracies, whose differences are in one unit."""
    same = [c for c in group if numbers.view.infos[c.task].metric == "accuracy"]
    if not same:
        return ""
    best, worst = max(same, key=lambda c: c.gain), min(same, key=lambda c: c.gain)
    gain = f" Largest gain in accuracy: {_named(numbers, best)}" if best.gain > 0 else ""
    loss = f"{';' if gain else ' '} largest loss: {_named(numbers, worst)}" if worst.gain < 0 else ""
    return f"{gain}{loss}." if gain or loss else ""


def _named(numbers: Numbers, c: ArmComparison) -> str:
    info = numbers.view.infos[c.task]
    changed = f", {formats.variation(c.variation)}" if c.variation else ""
    return f"{formats.difference(info, c.gain)} points ({title(numbers, c.arm)}, {info.title}{changed})"


def _against_the_best(numbers: Numbers) -> str:
    """The best DCAO arm of each workload against the best arm without."""
    group = []
    for task in numbers.view.tasks:
        own = [c for c in numbers.comparisons if c.task == task and "best other" in c.kinds and c.gain is not None]
        if own:
            group.append(max(own, key=lambda c: c.gain))
    if not group:
        return ""
    spelled = [
        f"{formats.difference(numbers.view.infos[c.task], c.found.difference)} "
        f"{formats.difference_unit(numbers.view.infos[c.task])} on {numbers.view.infos[c.task].title} ({c.verdict})"
        for c in group
    ]
    return f"The best DCAO arm minus the best arm without DCAO: {formats.listed(spelled)}."


def _versus(numbers: Numbers, c: ArmComparison) -> str:
    info = numbers.view.infos[c.task]
    interval = formats.interval(info, c.found.interval)
    return (
        f"{title(numbers, c.arm)} minus {title(numbers, c.other)}, the best without DCAO: "
        f"{formats.difference(info, c.found.difference)} {formats.difference_unit(info)} "
        f"({interval}; {c.verdict})."
    )


def _speed(numbers: Numbers) -> str:
    """Times to target against the reference, where both have a median."""
    ratios, missed = [], 0
    for place, own in numbers.reachings.items():
        reference = numbers.view.study.arm(place.arm).reference
        other = numbers.reachings.get(Place(task=place.task, arm=reference)) if reference else None
        if other is None or not numbers.view.is_wrapped(place.arm) or numbers.view.is_wrapped(other.arm):
            continue
        if math.isfinite(own.typical) and math.isfinite(other.typical):
            ratios.append(own.typical / other.typical)
        missed += math.isinf(own.typical) and math.isfinite(other.typical)
    if not ratios:
        return ""
    failed = f"; it misses a target that the bare one reaches in {missed}" if missed else ""
    return (
        f"Speed: to the target DCAO needs {formats.ratio(median(ratios))} times the gradient evaluations of the bare "
        f"optimizer (median of {_comparisons(len(ratios))} where both reach it, fewer in "
        f"{sum(ratio < 1 for ratio in ratios)}{failed})."
    )


def _robustness(numbers: Numbers) -> list[str]:
    """How much of each varied axis ends near the best, with and without DCAO."""
    found = [s for s in numbers.sweeps if s.source == "variations"]
    return [_usable(numbers, axis) for axis in dict.fromkeys(s.axis for s in found)]


def _usable(numbers: Numbers, axis: str) -> str:
    own = [s for s in numbers.sweeps if s.source == "variations" and s.axis == axis]
    shares = {arm: [s.num_usable / len(s.points) for s in own if s.arm == arm] for arm in dict.fromkeys(s.arm for s in own)}
    means = sorted(((sum(v) / len(v), arm) for arm, v in shares.items()), key=lambda pair: -pair[0])[:8]
    spelled = [f"{title(numbers, arm)} {100 * share:.0f}{formats.PERCENT}" for share, arm in means]
    return (
        f"Range of {formats.axis_title(axis)} that ends within 5{formats.PERCENT} of the best median, "
        f"mean over workloads: {formats.listed(spelled)}."
    )


def _cost(numbers: Numbers) -> str:
    is_wrapped = numbers.view.is_wrapped
    paid = [c for c in numbers.costs if is_wrapped(c.arm) and c.reference and not is_wrapped(c.reference)]
    times = [c.time_ratio for c in paid if c.time_ratio is not None]
    evaluations = [c.evaluations_ratio for c in paid if c.evaluations_ratio is not None]
    if not times or not evaluations:
        return ""
    return (
        f"Cost: a training step with DCAO takes {formats.percent_change(median(evaluations))} gradient evaluations and "
        f"{formats.percent_change(median(times))} time against the bare optimizer "
        f"(medians over workloads and arms; time from {formats.percent_change(min(times))} to "
        f"{formats.percent_change(max(times))})."
    )


def _certainty(numbers: Numbers) -> str:
    """What so few seeds can say at all."""
    pairs = [c.found.num_pairs for c in numbers.comparisons if c.found.num_pairs > 1]
    if not pairs:
        return ""
    most = max(pairs)
    smallest = 2.0 ** (1 - most)
    can = (
        f"with {most} seeds a signed-rank test can never reach p \u2264 {ALPHA:g} (its smallest p is {smallest:g}; 6 seeds can)"
        if smallest > ALPHA
        else f"with {most} seeds the smallest p of a signed-rank test is {formats.significant(smallest, 2)}"
    )
    return (
        f"Certainty: {can}, and a 95{formats.PERCENT} bootstrap interval of a mean covers about "
        f"{100 * coverage(most):.0f}{formats.PERCENT}. Holm's correction is over all "
        f"{_comparisons(len(numbers.comparisons))} of this report."
    )


def _workloads(number: int) -> str:
    return f"{number} workload{'' if number == 1 else 's'}"


def _comparisons(number: int) -> str:
    return f"{number} comparison{'' if number == 1 else 's'}"
