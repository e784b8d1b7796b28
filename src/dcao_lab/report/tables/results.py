"""Where each arm ended, best first, shaded by rank."""

from dcao_lab.report import formats
from dcao_lab.report.analysis.results import Result
from dcao_lab.report.analysis.spread import spread_words
from dcao_lab.report.analysis.view import Place, ranking
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.tables.base import NUM_SHADES, Context, cell, table
from dcao_lab.workloads import WorkloadInfo


def results(numbers: Numbers, task: str) -> Context | None:
    """The arms of a task under its own conditions; None where there are no such runs."""
    info = numbers.view.infos[task]
    found = [r for place, r in numbers.results.items() if place.task == task and place.variation is None]
    if not found:
        return None
    shade = _shades(found, info)
    rows = [_row(numbers, result, info, shade) for result in sorted(found, key=lambda r: r.rank)]
    columns = ["arm", formats.metric_title(info), f"95{formats.PERCENT} interval", "reached target"]
    return table(f"{info.title}: results", columns, rows, most=60)


def sweep_results(numbers: Numbers, task: str, axis: str) -> Context:
    """The arms of a task along one varied condition."""
    info = numbers.view.infos[task]
    values = sorted({v.value for v in numbers.view.variations(task) if v is not None and v.axis == axis})
    found = {
        (place.arm, place.variation.value): result
        for place, result in numbers.results.items()
        if place.task == task and place.variation is not None and place.variation.axis == axis
    }
    shade = _shades(list(found.values()), info)
    usable = {s.arm: s for s in numbers.sweeps if (s.task, s.axis, s.source) == (task, axis, "variations")}
    rows = [
        [
            numbers.styles[arm.name].title,
            *(_median_cell(found.get((arm.name, value)), info, shade) for value in values),
            f"{usable[arm.name].num_usable} of {usable[arm.name].num_shared}" if arm.name in usable else formats.DASH,
        ]
        for arm in numbers.view.arms(task)
        if any((arm.name, value) in found for value in values)
    ]
    columns = [formats.axis_title(axis), *(formats.axis_value(axis, value) for value in values), "near the best"]
    spread = spread_words(len(result.values) for result in found.values())
    note = f"Medians over seeds; small: {spread}." if spread else ""
    label = f"{info.title}: {formats.metric_title(info)} by {formats.axis_title(axis)}"
    return table(label, columns, rows, note=note)


def _row(numbers: Numbers, result: Result, info: WorkloadInfo, shade: dict[float | None, int]) -> list[object]:
    interval = result.interval
    known = interval.low is not None and interval.high is not None
    spelled = formats.span(formats.metric(info, interval.low), formats.metric(info, interval.high)) if known else "-"
    reaching = numbers.reachings[Place(task=result.place.task, arm=result.place.arm)]
    return [
        numbers.styles[result.place.arm].title,
        _median_cell(result, info, shade),
        cell(spelled, "" if known or interval.status == "ok" else interval.status),
        f"{reaching.median.num_reached} of {reaching.median.num_runs}",
    ]


def _median_cell(result: Result | None, info: WorkloadInfo, shade: dict[float | None, int]) -> Context:
    if result is None:
        return cell(formats.DASH)
    text = "diverged" if result.median is None else formats.metric(info, result.median)
    ends = [formats.metric(info, value) for value in sorted(v for v in result.ends if v is not None)]
    details = [formats.span(*ends)] if len(ends) == 2 and ends[0] != ends[1] else []
    if result.num_diverged:
        details.append(f"{result.num_diverged} of {len(result.values)} diverged")
    return cell(text, "; ".join(details), shade[result.median])


def _shades(found: list[Result], info: WorkloadInfo) -> dict[float | None, int]:
    """A shade for each median: the share of medians that are worse than it."""
    rank = ranking(info)
    medians = [result.median for result in found]
    return {m: (NUM_SHADES * sum(rank(o) < rank(m) for o in medians)) // len(medians) for m in medians}
