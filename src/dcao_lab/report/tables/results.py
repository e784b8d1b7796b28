"""Where each arm ended, under a workload's own conditions and along what was varied."""

from collections.abc import Sequence
from dataclasses import replace

from dcao_lab.report import formats
from dcao_lab.report.analysis.results import Result
from dcao_lab.report.analysis.robustness import Sweep
from dcao_lab.report.analysis.spread import spread_words
from dcao_lab.report.analysis.view import Place, ranking
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.tables.base import DIVERGED, Cell, Column, Group, Row, Table, by_workload, interval
from dcao_lab.workloads import WorkloadInfo

NUM_SHADES = 5


def results(numbers: Numbers, tasks: Sequence[str], *, is_best_first: bool = False) -> Table:
    """The arms of some tasks under the tasks' own conditions."""
    found = {task: _of_task(numbers, task, is_best_first=is_best_first) for task in tasks}
    words = spread_words(len(result.values) for own in found.values() for result in own) or "one seed"
    infos = numbers.view.infos
    return Table(
        name="results",
        label=f"{', '.join(infos[task].title for task in tasks)}: results",
        columns=(
            Column(title="arm", paper="Arm", is_text=True),
            Column(title=formats.metric_title(infos[tasks[0]]), paper="Median"),
            Column(paper="Spread"),
            Column(title=f"95{formats.PERCENT} interval"),
            Column(title="reached target"),
            Column(paper="Seeds"),
            Column(paper="Diverged"),
        ),
        groups=[Group(title=infos[task].title, rows=_results(numbers, found[task])) for task in tasks if found[task]],
        grouped_by="workload",
        note=f"Final test metric: median over seeds [{words}]; the best median of a workload in bold; a diverged run "
        "counts as worse than every other.",
        most=60,
    )


def _of_task(numbers: Numbers, task: str, *, is_best_first: bool) -> list[Result]:
    places = [Place(task=task, arm=arm.name) for arm in numbers.view.arms(task)]
    found = [numbers.results[place] for place in places if place in numbers.results]
    return sorted(found, key=lambda result: result.rank) if is_best_first else found


def _results(numbers: Numbers, found: list[Result]) -> list[Row]:
    info = numbers.view.infos[found[0].place.task]
    shade = _shades(found, info)
    return [_result(numbers, result, info, shade) for result in found]


def _result(numbers: Numbers, result: Result, info: WorkloadInfo, shade: dict[float | None, int]) -> Row:
    low, high = result.ends if info.higher_is_better else result.ends[::-1]
    reached = numbers.reachings[Place(task=result.place.task, arm=result.place.arm)].median
    found = interval(
        formats.metric(info, result.interval.low), formats.metric(info, result.interval.high), result.interval.status
    )
    return (
        numbers.styles[result.place.arm].title,
        _median(result, info, shade),
        interval(formats.metric(info, low), formats.metric(info, high)),
        replace(found, text=formats.span(found.text, found.upto), upto="") if found.upto else found,
        f"{reached.num_reached} of {reached.num_runs}",
        str(len(result.values)),
        str(result.num_diverged),
    )


def _median(result: Result | None, info: WorkloadInfo, shade: dict[float | None, int]) -> Cell:
    if result is None:
        return Cell(text=formats.DASH)
    ends = [formats.metric(info, value) for value in sorted(v for v in result.ends if v is not None)]
    details = [formats.span(*ends)] if len(ends) == 2 and ends[0] != ends[1] else []
    if result.num_diverged:
        details.append(f"{result.num_diverged} of {len(result.values)} diverged")
    return Cell(
        text=DIVERGED if result.median is None else formats.metric(info, result.median),
        detail="; ".join(details),
        shade=shade[result.median],
        is_bold=result.rank == 1 and result.median is not None,
    )


def _shades(found: list[Result], info: WorkloadInfo) -> dict[float | None, int]:
    """A shade for each median: the share of medians that are worse than it."""
    rank = ranking(info)
    medians = [result.median for result in found]
    return {m: (NUM_SHADES * sum(rank(o) < rank(m) for o in medians)) // len(medians) for m in medians}


def sweep_results(numbers: Numbers, task: str, axis: str) -> Table:
    """The arms of a task along one varied condition, a column for each of its values."""
    info = numbers.view.infos[task]
    values = sorted({v.value for v in numbers.view.variations(task) if v is not None and v.axis == axis})
    found = {
        (place.arm, place.variation.value): result
        for place, result in numbers.results.items()
        if place.task == task and place.variation is not None and place.variation.axis == axis
    }
    shade = _shades(list(found.values()), info)
    usable = {s.arm: s for s in numbers.sweeps if (s.task, s.axis, s.source) == (task, axis, "variations")}
    rows: list[Row] = [
        (
            arm.title,
            *(_median(found.get((arm.name, value)), info, shade) for value in values),
            _usable(usable[arm.name]) if arm.name in usable else formats.DASH,
        )
        for arm in numbers.view.arms(task)
        if any((arm.name, value) in found for value in values)
    ]
    titles = [formats.axis_title(axis), *(formats.axis_value(axis, value) for value in values), "near the best"]
    words = spread_words(len(result.values) for result in found.values())
    return Table(
        name=f"sweep_{axis}",
        label=f"{info.title}: {formats.metric_title(info)} by {formats.axis_title(axis)}",
        columns=[Column(title=title) for title in titles],
        groups=[Group(rows=rows)],
        note=f"Medians over seeds; small: {words}." if words else "",
    )


def _usable(sweep: Sweep) -> str:
    return f"{sweep.num_usable} of {sweep.num_shared}"


def robustness(numbers: Numbers) -> Table:
    """How much of each varied condition ends near the best, and from where the worst and the best."""

    def row(info: WorkloadInfo, sweep: Sweep) -> Row:
        medians = sorted((median for _, median, _ in sweep.points), key=ranking(info))
        ends = (formats.metric(info, medians[0]), formats.metric(info, medians[-1]))
        return (formats.axis_title(sweep.axis), numbers.styles[sweep.arm].title, _usable(sweep), *ends)

    return Table(
        name="robustness",
        label="Robustness",
        columns=(
            Column(paper="Varied", is_text=True),
            Column(paper="Arm", is_text=True),
            Column(paper="Usable"),
            Column(paper="Worst"),
            Column(paper="Best"),
        ),
        groups=by_workload(numbers, (sweep for sweep in numbers.sweeps if sweep.source == "variations"), row),
        grouped_by="workload",
        note="Values of a hyperparameter from which the median run ends within 5 % of the best of any arm, and the "
        "medians from the worst and from the best value (a dash: diverged).",
    )
