"""Arms against each other, by workload and over all of them."""

import math
from collections.abc import Sequence

from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison
from dcao_lab.report.analysis.overall import Overall
from dcao_lab.report.analysis.solutions import Correlation
from dcao_lab.report.analysis.targets import Reaching
from dcao_lab.report.analysis.untuned import LIMITS, Untuned
from dcao_lab.report.figures.solutions import MEASURE_TITLES, outcome_title
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.tables.base import DIVERGED, Cell, Column, Group, Row, Table, by_workload, interval
from dcao_lab.statistics import Interval
from dcao_lab.workloads import WorkloadInfo

INTERVAL = f"95{formats.PERCENT} interval"
COMPARISON_NOTE = (
    "Mean over seeds of the paired differences of the final test metric, arm minus other, of accuracies in points; a "
    "diverged run counts as the worst score of its task, untrained networks included. The interval is by bootstrap, p "
    "of the signed-rank test; r: matched-pairs rank-biserial correlation; d: mean difference over its standard "
    "deviation; both positive where the arm's number is the larger. The best other arm is chosen by these same runs, "
    "which favours it."
)
UNTUNED_NOTE = (
    "Worst start: the worst median of any initial learning rate. Short by: how much worse it is than the best of the "
    f"sweep, of accuracies in points, negative where it is better; allowed: {LIMITS}. Difference: arm minus sweep, so "
    "that of a perplexity less than zero is better: the mean over seeds of the mean over all starts minus the sweep's "
    "best, paired by seed, with its 95 % bootstrap interval; a diverged run counts as the worst score of its task. The "
    "sweep's best was chosen by these same runs, which favours it. Cost: gradient evaluations of the whole sweep with "
    "one seed over those of the one run, probes included."
)


def comparisons(numbers: Numbers, found: Sequence[ArmComparison]) -> Table:
    """Some of the comparisons that the report makes."""
    has_conditions = any(c.variation is not None for c in found)
    conditions = Column(title="conditions", paper="Conditions", is_text=True)
    statuses = [c.found.test_status for c in found] + [c.found.interval.status for c in found]
    spelled = "; ".join(status for status in dict.fromkeys(statuses) if status != "ok")

    def row(info: WorkloadInfo, c: ArmComparison) -> Row:
        changed = [formats.variation(c.variation) or "its own"] if has_conditions else []
        return [*changed, *_comparison(numbers, info, c)]

    return Table(
        name="comparisons",
        label="Comparisons",
        columns=(
            *([conditions] if has_conditions else []),
            Column(title="arm", paper="Arm", is_text=True),
            Column(title="against", paper="Against", is_text=True),
            Column(title="why", is_text=True),
            Column(title="difference", paper="Difference"),
            Column(title=INTERVAL, paper="Interval"),
            Column(title="verdict"),
            Column(title="p"),
            Column(title="p (Holm)", paper="p (Holm)"),
            Column(title="r", paper="r"),
            Column(title="d"),
            Column(title="pairs", paper="Pairs"),
        ),
        groups=by_workload(numbers, found, row),
        grouped_by="workload",
        note=f"{COMPARISON_NOTE} Where it says little: {spelled}." if spelled else COMPARISON_NOTE,
    )


def _comparison(numbers: Numbers, info: WorkloadInfo, c: ArmComparison) -> Row:
    found = c.found
    return (
        numbers.styles[c.arm].title,
        numbers.styles[c.other].title,
        formats.listed(list(c.kinds)),
        _difference(info, found.difference),
        _interval(info, found.interval),
        c.verdict + (", significant" if c.is_certain else ""),
        formats.p_value(found.p_value),
        Cell(text=formats.p_value(found.p_holm), is_bold=c.is_certain),
        formats.ratio(found.rank_biserial),
        formats.ratio(found.cohens_dz),
        str(found.num_pairs),
    )


def _difference(info: WorkloadInfo, value: float | None, *, is_bold: bool = False) -> Cell:
    return Cell(text=formats.difference(info, value), unit=formats.difference_unit(info), is_bold=is_bold)


def _interval(info: WorkloadInfo, found: Interval) -> Cell:
    return interval(formats.difference(info, found.low), formats.difference(info, found.high), found.status)


def untuned(numbers: Numbers) -> Table:
    """Runs that nobody tuned beside the best of a sweep, a row for each arm and sweep."""

    def row(info: WorkloadInfo, one: Untuned) -> Row:
        at = "" if one.best is None else f"at {formats.learning_rate(one.best_lr)}"
        return (
            Cell(text=numbers.styles[one.arm].title, detail=f"{len(one.starts)} starts"),
            Cell(text=numbers.styles[one.other].title, detail=f"{one.num_swept} initial learning rates"),
            Cell(text=_metric(info, one.best), detail=at),
            _metric(info, one.worst),
            _metric(info, one.best_start),
            _difference(info, one.short, is_bold=one.is_within and one.short is not None),
            formats.difference(info, one.allowed),
            "yes" if one.is_within else "no",
            _difference(info, one.found.difference),
            _interval(info, one.found.interval),
            str(one.found.num_pairs),
            Cell(text=formats.significant(one.cost_ratio), unit="runs"),
        )

    return Table(
        name="untuned",
        label="One run that nobody tuned, against a sweep",
        columns=(
            Column(title="arm", paper="Arm", is_text=True),
            Column(title="against the best of", paper="Sweep of", is_text=True),
            Column(title="best", paper="Best"),
            Column(title="worst start", paper="Worst start"),
            Column(title="best start"),
            Column(title="short by", paper="Short by"),
            Column(title="allowed"),
            Column(title="within"),
            Column(title="difference", paper="Difference"),
            Column(title=INTERVAL, paper="Interval"),
            Column(title="seeds"),
            Column(title="cost of the sweep", paper="Cost"),
        ),
        groups=by_workload(numbers, numbers.untuned, row),
        grouped_by="workload",
        note=UNTUNED_NOTE,
    )


def _metric(info: WorkloadInfo, value: float | None) -> str:
    return DIVERGED if value is None else formats.metric(info, value)


def targets(numbers: Numbers) -> Table:
    """When each arm reached each target."""

    def row(info: WorkloadInfo, found: Reaching) -> Row:
        median = found.median
        has_median = math.isfinite(median.median)
        return (
            numbers.styles[found.arm].title,
            formats.metric(info, info.target),
            f"{median.num_reached} of {median.num_runs}",
            _time(median.median),
            Cell(text=_time(median.low), upto=_time(median.high)) if has_median else formats.DASH,
            formats.p_value(found.against.p_value) if found.against else formats.DASH,
            median.status,
        )

    titles = ("arm", "target", "reached", "median", INTERVAL, "log-rank p against the reference", "status")
    return Table(
        name="targets",
        label="Time to target",
        columns=[Column(title=title) for title in titles],
        groups=by_workload(numbers, numbers.reachings.values(), row),
        grouped_by="workload",
        note="Gradient evaluations until the validation metric first reached the workload's target, which was set "
        "before any comparison was run. Kaplan-Meier: a run that missed it is censored at its end, one that diverged "
        "at the longest run's.",
    )


def _time(value: float) -> str:
    return "never" if math.isinf(value) else formats.count(value)


def overall(numbers: Numbers, found: Overall) -> Table:
    """Each arm over all workloads, by its mean rank."""
    ranks = dict(zip(found.ranking.arms, found.ranking.mean_ranks, strict=True)) if found.ranking else {}
    rows = []
    for arm in ranks or found.arms:
        mean, profile = found.means.get(arm), found.profiles[arm]
        ends = (mean.interval.low, mean.interval.high) if mean else (None, None)
        rows.append(
            (
                numbers.styles[arm].title,
                formats.significant(ranks.get(arm)),
                formats.significant(mean.value if mean else None),
                interval(*map(formats.significant, ends)),
                formats.significant(profile.score),
            )
        )
    return Table(
        name="ranking",
        label="Over all workloads",
        columns=(
            Column(title="arm", paper="Arm", is_text=True),
            Column(title="mean rank", paper="Mean rank"),
            Column(title="interquartile mean", paper="Interquartile mean"),
            Column(title=INTERVAL, paper="Interval"),
            Column(title="profile score", paper="Profile"),
        ),
        groups=[Group(rows=rows)],
        note="Mean rank over workloads, interquartile mean of the normalised scores, score of the performance profile "
        f"(1: fastest everywhere). {ranking_note(numbers, found)}",
        most=12,
    )


def ranking_note(numbers: Numbers, found: Overall) -> str:
    """What the ranking can say."""
    if found.ranking is None:
        return ""
    one = found.ranking
    friedman = f"Friedman's test: p {formats.p_value(one.p_value)}" if one.p_value is not None else one.status
    left_out = [numbers.styles[arm].title for arm in found.left_out]
    left = f" Without {formats.listed(left_out)}, not run on every workload." if left_out else ""
    return (
        f"{friedman}. Mean ranks over {one.num_workloads} workloads differ at 95{formats.PERCENT} confidence if they "
        f"are further apart than {formats.significant(one.critical_difference)} (Nemenyi).{left}"
    )


def correlations(numbers: Numbers, task: str) -> Table:
    """The correlation of each measure of curvature with each outcome of a task's trained networks."""
    info = numbers.view.infos[task]

    def row(found: Correlation) -> Row:
        rho = formats.DASH if found.rho is None else f"{found.rho:+.2f}"
        outcome = outcome_title(info, found.outcome)
        return (MEASURE_TITLES[found.measure], outcome, rho, formats.p_value(found.p_value), str(found.num_runs))

    return Table(
        name="correlations",
        label="Correlations",
        columns=[Column(title=title) for title in ("curvature", "with", "Spearman's rho", "p", "networks")],
        groups=[Group(rows=[row(found) for found in numbers.correlations if found.task == task])],
    )
