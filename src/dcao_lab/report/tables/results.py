"""Where each arm ended, under a workload's own conditions and along what was varied."""

from collections.abc import Sequence
from dataclasses import replace

from dcao_lab.report import formats
from dcao_lab.report.analysis.results import Result, along
from dcao_lab.report.analysis.robustness import Sweep
from dcao_lab.report.analysis.spread import spread_words
from dcao_lab.report.analysis.view import Place, ranking
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.tables.base import (
    DIVERGED,
    Cell,
    Column,
    Columns,
    Row,
    Table,
    by_workload,
    interval,
    values,
    words,
)
from dcao_lab.statistics import Interval, TargetMedian
from dcao_lab.workloads import WorkloadInfo

NUM_SHADES = 5
RESULT_NOTE = "the best median of a workload in bold; a diverged run counts as worse than every other."
ROBUSTNESS_NOTE = (
    "Values of a hyperparameter from which the median run ends within 5 % of the best of any arm, and the medians from "
    "the worst and from the best value (a dash: diverged)."
)


def results(numbers: Numbers, tasks: Sequence[str], *, is_best_first: bool = False) -> Table:
    """The arms of some tasks under the tasks' own conditions."""
    places = [Place(task=task, arm=arm.name) for task in tasks for arm in numbers.view.arms(task)]
    found = [numbers.results[place] for place in places if place in numbers.results]
    infos = numbers.view.infos
    shades = {task: _shades([r for r in found if r.task == task], infos[task]) for task in tasks}
    columns: Columns[Result] = (
        words("arm", "Arm", lambda r, _: numbers.title(r.place.arm)),
        values(formats.metric_title(infos[tasks[0]]), "Median", lambda r, info: _median(r, info, shades[r.task])),
        values("", "Spread", lambda r, info: _interval(info, r.ends if info.higher_is_better else r.ends[::-1])),
        values(f"95{formats.PERCENT} interval", "", lambda r, info: _bootstrapped(info, r.interval)),
        values("reached target", "", lambda r, _: _reached(numbers.reachings[r.place].median)),
        values("", "Seeds", lambda r, _: str(len(r.values))),
        values("", "Diverged", lambda r, _: str(r.num_diverged)),
    )
    spread = spread_words(len(result.values) for result in found) or "one seed"
    note = f"Final test metric: median over seeds [{spread}]; {RESULT_NOTE}"
    ordered = sorted(found, key=lambda r: r.rank) if is_best_first else found
    label = f"{', '.join(infos[task].title for task in tasks)}: results"
    return by_workload(numbers, ordered, columns, name="results", label=label, note=note, most=60)


def _interval(info: WorkloadInfo, ends: tuple[float | None, float | None], status: str = "ok") -> Cell:
    low, high = ends
    return interval(formats.metric(info, low), formats.metric(info, high), status)


def _bootstrapped(info: WorkloadInfo, found: Interval) -> Cell:
    """As narrow as a card of the page."""
    spelled = _interval(info, (found.low, found.high), found.status)
    return replace(spelled, text=formats.span(spelled.text, spelled.upto), upto="") if spelled.upto else spelled


def _reached(found: TargetMedian) -> str:
    return f"{found.num_reached} of {found.num_runs}"


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
    found = {arm: along(numbers.results, task, arm.name, axis) for arm in numbers.view.arms(task)}
    values = sorted({value for own in found.values() for value in own})
    results = [result for own in found.values() for result in own.values()]
    shade = _shades(results, info)
    usable = {s.arm: s for s in numbers.sweeps if (s.task, s.axis, s.source) == (task, axis, "variations")}
    rows: list[Row] = [
        (
            arm.title,
            *(_median(own.get(value), info, shade) for value in values),
            _usable(usable[arm.name]) if arm.name in usable else formats.DASH,
        )
        for arm, own in found.items()
        if own
    ]
    titles = [formats.axis_title(axis), *(formats.axis_value(axis, value) for value in values), "near the best"]
    words = spread_words(len(result.values) for result in results)
    return Table(
        name=f"sweep_{axis}",
        label=f"{info.title}: {formats.metric_title(info)} by {formats.axis_title(axis)}",
        columns=[Column(title=title) for title in titles],
        rows=rows,
        note=f"Medians over seeds; small: {words}." if words else "",
    )


def _usable(sweep: Sweep) -> str:
    return f"{sweep.num_usable} of {sweep.num_shared}"


def robustness(numbers: Numbers) -> Table:
    """How much of each varied condition ends near the best, and from where the worst and the best."""
    columns: Columns[Sweep] = (
        words("", "Varied", lambda s, _: formats.axis_title(s.axis)),
        words("", "Arm", lambda s, _: numbers.title(s.arm)),
        values("", "Usable", lambda s, _: _usable(s)),
        values("", "Worst", lambda s, info: formats.metric(info, min(_medians(s), key=ranking(info)))),
        values("", "Best", lambda s, info: formats.metric(info, max(_medians(s), key=ranking(info)))),
    )
    varied = (sweep for sweep in numbers.sweeps if sweep.source == "variations")
    return by_workload(numbers, varied, columns, name="robustness", label="Robustness", note=ROBUSTNESS_NOTE)


def _medians(sweep: Sweep) -> list[float | None]:
    return [median for _, median, _ in sweep.points]
