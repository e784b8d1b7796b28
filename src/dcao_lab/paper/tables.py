"""The tables of a study, as LaTeX."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from dcao_lab.paper.latex import Table, bold, escape, number
from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison
from dcao_lab.report.analysis.costs import Cost
from dcao_lab.report.analysis.results import Result
from dcao_lab.report.analysis.robustness import Sweep
from dcao_lab.report.analysis.spread import spread_words
from dcao_lab.report.analysis.tuning import Tuned
from dcao_lab.report.analysis.untuned import LIMITS, Untuned
from dcao_lab.report.analysis.view import ranking, spelled
from dcao_lab.report.numbers import Numbers
from dcao_lab.workloads import WorkloadInfo

Row = tuple[str, ...]
_Found = TypeVar("_Found", ArmComparison, Untuned, Sweep, Cost, Tuned)


def tables(numbers: Numbers) -> Iterator[Table]:
    """Each table that the study has rows for."""
    for build in (_results, _comparisons, _untuned, _robustness, _overhead, _tuned, _ranking):
        table = build(numbers)
        if any(table.groups):
            yield table


def _results(numbers: Numbers) -> Table:
    groups, nums_runs = [], []
    for task, info in numbers.view.infos.items():
        own = {p.arm: r for p, r in numbers.results.items() if p.task == task and p.variation is None}
        nums_runs += [len(result.values) for result in own.values()]
        rows = [_result(info, arm.title, own[arm.name]) for arm in numbers.view.arms(task) if arm.name in own]
        groups.append(_named(info, rows))
    return Table(
        name="results",
        caption=f"Final test metric: median over seeds [{spread_words(nums_runs) or 'one seed'}]; the best median of a "
        "workload in bold; "
        "a diverged run counts as worse than every other.",
        columns=("Workload", "Arm", "Median", "Spread", "Seeds", "Diverged"),
        alignment="llrrrr",
        groups=tuple(groups),
    )


def _result(info: WorkloadInfo, title: str, result: Result) -> Row:
    median = number(formats.metric(info, result.median))
    return (
        escape(title),
        bold(median) if result.rank == 1 and result.median is not None else median,
        _interval(*(formats.metric(info, value) for value in _ascending(info, result.ends))),
        str(len(result.values)),
        str(result.num_diverged),
    )


def _comparisons(numbers: Numbers) -> Table:
    chosen = [c for c in numbers.comparisons if c.variation is None] or list(numbers.comparisons)
    return Table(
        name="comparisons",
        caption="Mean difference of the final test metric (first arm minus second; accuracy in points), 95~\\% "
        "bootstrap interval, p-value of the signed-rank test after Holm's correction, rank-biserial correlation; "
        "p of at most 0.05 in bold.",
        columns=("Workload", "Arm", "Against", "Difference", "Interval", "$p$ (Holm)", "$r$", "Pairs"),
        alignment="lllrrrrr",
        groups=_by_workload(numbers, _comparison, chosen),
    )


def _comparison(numbers: Numbers, info: WorkloadInfo, comparison: ArmComparison) -> Row:
    found = comparison.found
    ends = (found.interval.low, found.interval.high)
    p_value = number(formats.p_value(found.p_holm))
    conditions = f" ({spelled(comparison.variation)})" if comparison.variation else ""
    return (
        escape(numbers.view.study.arm(comparison.arm).title + conditions),
        escape(numbers.view.study.arm(comparison.other).title),
        number(formats.difference(info, found.difference)),
        _interval(*(formats.difference(info, end) for end in ends)),
        bold(p_value) if comparison.is_certain else p_value,
        formats.DASH * 2 if found.rank_biserial is None else number(f"{found.rank_biserial:.2f}"),
        str(found.num_pairs),
    )


def _untuned(numbers: Numbers) -> Table:
    return Table(
        name="untuned",
        caption="Worst median over all initial learning rates, beside the best median of a sweep without DCAO; how "
        f"much worse that is (accuracy in points), in bold where allowed: {escape(LIMITS)}; mean difference over seeds "
        "and all starts, arm minus sweep, with 95~\\% bootstrap interval; gradient evaluations of the sweep over those "
        "of the one run.",
        columns=("Workload", "Arm", "Sweep of", "Best", "Worst start", "Short by", "Difference", "Cost"),
        alignment="lllrrrrr",
        groups=_by_workload(numbers, _untuned_run, numbers.untuned),
    )


def _untuned_run(numbers: Numbers, info: WorkloadInfo, one: Untuned) -> Row:
    short = number(formats.difference(info, one.short))
    ends = (formats.difference(info, end) for end in (one.found.interval.low, one.found.interval.high))
    return (
        escape(numbers.view.study.arm(one.arm).title),
        escape(numbers.view.study.arm(one.other).title),
        number(formats.metric(info, one.best)),
        number(formats.metric(info, one.worst)),
        bold(short) if one.is_within and one.short is not None else short,
        f"{number(formats.difference(info, one.found.difference))} {_interval(*ends)}",
        formats.significant(one.cost_ratio),
    )


def _robustness(numbers: Numbers) -> Table:
    varied = [sweep for sweep in numbers.sweeps if sweep.source == "variations"]
    return Table(
        name="robustness",
        caption="Values of a hyperparameter from which the median run ends within 5~\\% of the best of any arm, "
        "and the medians from the worst and from the best value (a dash: diverged).",
        columns=("Workload", "Varied", "Arm", "Usable", "Worst", "Best"),
        alignment="lllrrr",
        groups=_by_workload(numbers, _sweep, varied),
    )


def _sweep(numbers: Numbers, info: WorkloadInfo, sweep: Sweep) -> Row:
    medians = sorted((median for _, median, _ in sweep.points), key=ranking(info))
    return (
        escape(formats.axis_title(sweep.axis)),
        escape(numbers.view.study.arm(sweep.arm).title),
        f"{sweep.num_usable} of {sweep.num_shared}",
        number(formats.metric(info, medians[0])),
        number(formats.metric(info, medians[-1])),
    )


def _overhead(numbers: Numbers) -> Table:
    return Table(
        name="overhead",
        caption="Cost of a training step, medians over runs; changes are against the arm's reference. Copies: of the "
        "parameters, held between steps.",
        columns=("Workload", "Arm", "Evaluations", "Change", "ms", "Change", "Copies", "MB"),
        alignment="llrrrrrr",
        groups=_by_workload(numbers, _cost, numbers.costs),
    )


def _cost(numbers: Numbers, info: WorkloadInfo, cost: Cost) -> Row:
    memory = formats.DASH if cost.peak_megabytes is None else f"{cost.peak_megabytes:.0f}"
    cells = (
        formats.ratio(cost.evaluations_per_step),
        formats.percent_change(cost.evaluations_ratio),
        formats.significant(cost.milliseconds),
        formats.percent_change(cost.time_ratio),
        formats.significant(cost.held_copies, 2),
        memory,
    )
    return (escape(numbers.view.study.arm(cost.arm).title), *map(number, cells))


def _tuned(numbers: Numbers) -> Table:
    return Table(
        name="tuned",
        caption="Hyperparameters that tuning chose, and the best validation metric of its trials.",
        columns=("Workload", "Arm", "Learning rate", "Other settings", "Trials", "Diverged", "Best"),
        alignment="llrlrrr",
        groups=_by_workload(numbers, _tuning, numbers.tunings),
    )


def _tuning(numbers: Numbers, info: WorkloadInfo, tuned: Tuned) -> Row:
    lr = formats.DASH if tuned.chosen_lr is None else formats.learning_rate(float(f"{tuned.chosen_lr:.3g}"))
    settings = [f"{name}={_setting(value)}" for name, value in tuned.chosen.items()]
    return (
        escape(numbers.view.study.arm(tuned.arm).title),
        number(lr),
        escape(", ".join(settings)),
        str(tuned.num_trials),
        str(tuned.num_diverged),
        number(formats.metric(info, tuned.best)),
    )


def _setting(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _ranking(numbers: Numbers) -> Table:
    found = numbers.overall
    rows, test = [], ""
    if found is not None and found.ranking is not None:
        rows = [
            _rank(numbers, arm, rank) for arm, rank in zip(found.ranking.arms, found.ranking.mean_ranks, strict=True)
        ]
        p_value = "undefined" if found.ranking.p_value is None else number(formats.p_value(found.ranking.p_value))
        test = f"; critical difference {found.ranking.critical_difference:.2f}, p of Friedman's test {p_value}"
    return Table(
        name="ranking",
        caption=f"Mean rank over workloads, interquartile mean of normalised scores with 95~\\% interval, "
        f"performance-profile score (1: fastest everywhere){test}.",
        columns=("Arm", "Mean rank", "Interquartile mean", "Interval", "Profile"),
        alignment="lrrrr",
        groups=(tuple(rows),),
    )


def _rank(numbers: Numbers, arm: str, rank: float) -> Row:
    mean, profile = numbers.overall.means.get(arm), numbers.overall.profiles.get(arm)
    ends = (None, None) if mean is None else (mean.interval.low, mean.interval.high)
    return (
        escape(numbers.view.study.arm(arm).title),
        f"{rank:.2f}",
        number(formats.ratio(None if mean is None else mean.value)),
        _interval(*map(formats.ratio, ends)),
        number(formats.ratio(None if profile is None else profile.score)),
    )


def _by_workload(
    numbers: Numbers, row: Callable[[Numbers, WorkloadInfo, _Found], Row], found: Sequence[_Found]
) -> tuple[tuple[Row, ...], ...]:
    """A row for each of ``found``, in a group a workload."""
    return tuple(
        _named(info, [row(numbers, info, one) for one in found if one.task == task])
        for task, info in numbers.view.infos.items()
    )


def _named(info: WorkloadInfo, rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows of a workload, its title before the first."""
    return tuple((escape(info.title) if index == 0 else "", *row) for index, row in enumerate(rows))


def _interval(low: str, high: str) -> str:
    return number(low) if low == high == formats.DASH else f"[{number(low)}, {number(high)}]"


def _ascending(info: WorkloadInfo, ends: Sequence[float | None]) -> Sequence[float | None]:
    """The worse and the better end as the smaller and the larger."""
    return ends if info.higher_is_better else ends[::-1]
