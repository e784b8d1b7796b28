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

INTERVAL = f"95{formats.PERCENT} interval"
COMPARISON_NOTE = (
    "Mean over seeds of the paired differences of the final test metric, arm minus other, of accuracies in points; a "
    "diverged run counts as the worst score of its task, untrained networks included. The interval is the 95 % "
    "bootstrap interval; p is of the signed-rank test, p (Holm) the same after Holm's correction, in bold if "
    "at most 0.05; r: matched-pairs rank-biserial correlation; d: mean difference over its standard deviation; both "
    "positive where the arm's number is the larger. The best other arm is chosen by these same runs, which favours it."
)
TARGET_NOTE = (
    "Gradient evaluations until the validation metric first reached the workload's target, which was set before any "
    "comparison was run. Kaplan-Meier: a run that missed it is censored at its end, one that diverged at the longest "
    "run's."
)
UNTUNED_NOTE = (
    "Worst start: the worst median of any initial learning rate. Short by: how much worse it is than the best of the "
    "sweep, of accuracies in points, negative where it is better; allowed, and then in bold: "
    f"{LIMITS}. Difference: arm minus sweep, so that of a perplexity less than zero is better: the mean over seeds of "
    "the mean over all starts minus the sweep's best, paired by seed, with its 95 % bootstrap interval; a diverged run "
    "counts as the worst score of its task. The sweep's best was chosen by these same runs, which favours it. Cost: "
    "gradient evaluations of the whole sweep with one seed over those of the one run, probes included."
)


def comparisons(numbers: Numbers, found: Sequence[ArmComparison]) -> Table:
    """Some of the comparisons that the report makes."""
    columns: Columns[ArmComparison] = (
        words("conditions", "Conditions", lambda c, _: formats.variation(c.variation) or "its own"),
        words("arm", "Arm", lambda c, _: numbers.title(c.arm)),
        words("against", "Against", lambda c, _: numbers.title(c.other)),
        words("why", "", lambda c, _: formats.listed(list(c.kinds))),
        values("difference", "Difference", lambda c, info: _difference(info, c.found.difference)),
        values(INTERVAL, "Interval", lambda c, info: _interval(info, c.found.interval)),
        words("verdict", "", lambda c, _: c.verdict + (", significant" if c.is_certain else "")),
        values("p", "", lambda c, _: formats.p_value(c.found.p_value)),
        values("p (Holm)", "p (Holm)", lambda c, _: Cell(text=formats.p_value(c.found.p_holm), is_bold=c.is_certain)),
        values("r", "r", lambda c, _: formats.ratio(c.found.rank_biserial)),
        values("d", "", lambda c, _: formats.ratio(c.found.cohens_dz)),
        values("pairs", "Pairs", lambda c, _: str(c.found.num_pairs)),
    )
    if all(c.variation is None for c in found):
        columns = columns[1:]
    statuses = [status for c in found for status in (c.found.test_status, c.found.interval.status)]
    spelled = "; ".join(status for status in dict.fromkeys(statuses) if status != "ok")
    note = f"{COMPARISON_NOTE} Where it says little: {spelled}." if spelled else COMPARISON_NOTE
    return by_workload(numbers, found, columns, name="comparisons", label="Comparisons", note=note)


def _difference(info: WorkloadInfo, value: float | None, *, is_bold: bool = False) -> Cell:
    unit, is_bold = formats.difference_unit(info), is_bold and value is not None
    return Cell(text=formats.difference(info, value), unit=unit, is_bold=is_bold)


def _interval(info: WorkloadInfo, found: Interval) -> Cell:
    return interval(formats.difference(info, found.low), formats.difference(info, found.high), found.status)


def untuned(numbers: Numbers) -> Table:
    """Runs that nobody tuned beside the best of a sweep, a row for each arm and sweep."""
    columns: Columns[Untuned] = (
        words("arm", "Arm", lambda u, _: Cell(text=numbers.title(u.arm), detail=f"{len(u.starts)} starts")),
        words("against the best of", "Sweep of", lambda u, _: _swept(numbers, u)),
        values("best", "Best", lambda u, info: Cell(text=_metric(info, u.best), detail=_best_lr(u))),
        values("worst start", "Worst start", lambda u, info: _metric(info, u.worst)),
        values("best start", "", lambda u, info: _metric(info, u.best_start)),
        values("short by", "Short by", lambda u, info: _difference(info, u.short, is_bold=u.is_within)),
        values("allowed", "", lambda u, info: formats.difference(info, u.allowed)),
        words("within", "", lambda u, _: "yes" if u.is_within else "no"),
        values("difference", "Difference", lambda u, info: _difference(info, u.found.difference)),
        values(INTERVAL, "Interval", lambda u, info: _interval(info, u.found.interval)),
        values("seeds", "", lambda u, _: str(u.found.num_pairs)),
        values("cost of the sweep", "Cost", lambda u, _: Cell(text=formats.significant(u.cost_ratio), unit="runs")),
    )
    label = "One run that nobody tuned, against a sweep"
    return by_workload(numbers, numbers.untuned, columns, name="untuned", label=label, note=UNTUNED_NOTE)


def _swept(numbers: Numbers, one: Untuned) -> Cell:
    return Cell(text=numbers.title(one.other), detail=f"{one.num_swept} initial learning rates")


def _best_lr(one: Untuned) -> str:
    return "" if one.best is None else f"at {formats.learning_rate(one.best_lr)}"


def _metric(info: WorkloadInfo, value: float | None) -> str:
    return DIVERGED if value is None else formats.metric(info, value)


def targets(numbers: Numbers) -> Table:
    """When each arm reached each target."""
    columns: Columns[Reaching] = (
        words("arm", "", lambda r, _: numbers.title(r.arm)),
        values("target", "", lambda _, info: formats.metric(info, info.target)),
        values("reached", "", lambda r, _: f"{r.median.num_reached} of {r.median.num_runs}"),
        values("median", "", lambda r, _: _time(r.median.median)),
        values(INTERVAL, "", lambda r, _: _times(r.median)),
        values("log-rank p against the reference", "", lambda r, _: _log_rank(r)),
        words("status", "", lambda r, _: r.median.status),
    )
    found = numbers.reachings.values()
    return by_workload(numbers, found, columns, name="targets", label="Time to target", note=TARGET_NOTE)


def _times(median: TargetMedian) -> Cell:
    has_median = math.isfinite(median.median)
    return Cell(text=_time(median.low), upto=_time(median.high)) if has_median else Cell(text=formats.DASH)


def _time(value: float) -> str:
    return "never" if math.isinf(value) else formats.count(value)


def _log_rank(reaching: Reaching) -> str:
    return formats.DASH if reaching.against is None else formats.p_value(reaching.against.p_value)


def overall(numbers: Numbers, found: Overall) -> Table:
    """Each arm over all workloads, by its mean rank."""
    ranks = dict(zip(found.ranking.arms, found.ranking.mean_ranks, strict=True)) if found.ranking else {}
    rows = []
    for arm in ranks or found.arms:
        mean, profile = found.means.get(arm), found.profiles[arm]
        ends = (mean.interval.low, mean.interval.high) if mean else (None, None)
        rows.append(
            (
                numbers.title(arm),
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
        rows=rows,
        note="Mean rank over workloads, interquartile mean of the normalised scores with its 95 % interval, score of "
        f"the performance profile (1: fastest everywhere). {ranking_note(numbers, found)}",
        most=12,
    )


def ranking_note(numbers: Numbers, found: Overall) -> str:
    """What the ranking can say."""
    if found.ranking is None:
        return ""
    one = found.ranking
    friedman = f"Friedman's test: p {formats.p_value(one.p_value)}" if one.p_value is not None else one.status
    left_out = [numbers.title(arm) for arm in found.left_out]
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
        rows=[row(found) for found in numbers.correlations if found.task == task],
    )
