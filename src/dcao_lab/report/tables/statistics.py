"""Comparisons, times to target, and arms over all workloads."""

import math

from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison
from dcao_lab.report.analysis.overall import Overall
from dcao_lab.report.analysis.targets import Reaching
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.tables.base import Context, table
from dcao_lab.workloads import WorkloadInfo

COMPARISON_NOTE = (
    "Mean over seeds of the paired differences, arm minus other; a diverged run counts as the worst score of its task, "
    "untrained networks included. r: matched-pairs rank-biserial correlation; d: mean difference over its standard "
    "deviation; both positive where the arm's number is the larger. The best other arm is chosen by these same runs, "
    "which favours it."
)


def comparisons(numbers: Numbers) -> Context:
    """Every comparison that the report makes."""
    changed = ["conditions"] if numbers.view.has_variations else []
    columns = ["workload", *changed, "arm", "against", "why", "difference", f"95{formats.PERCENT} interval", "verdict",
               "p", "p (Holm)", "r", "d", "pairs"]  # fmt: skip
    rows = [_comparison(numbers, c) for c in numbers.comparisons]
    statuses = [c.found.test_status for c in numbers.comparisons if c.found.test_status != "ok"]
    statuses += [c.found.interval.status for c in numbers.comparisons if c.found.interval.status != "ok"]
    spelled = "; ".join(dict.fromkeys(statuses))
    note = f"{COMPARISON_NOTE} Where it says little: {spelled}." if spelled else COMPARISON_NOTE
    return table("Comparisons", columns, rows, note=note)


def _comparison(numbers: Numbers, c: ArmComparison) -> list[str]:
    info = numbers.view.infos[c.task]
    return [
        info.title,
        *([formats.variation(c.variation) or "its own"] if numbers.view.has_variations else []),
        numbers.styles[c.arm].title,
        numbers.styles[c.other].title,
        formats.listed(list(c.kinds)),
        f"{formats.difference(info, c.found.difference)} {formats.difference_unit(info)}",
        formats.interval(info, c.found.interval),
        c.verdict + (", significant" if c.is_certain else ""),
        formats.p_value(c.found.p_value),
        formats.p_value(c.found.p_holm),
        formats.ratio(c.found.rank_biserial),
        formats.ratio(c.found.cohens_dz),
        str(c.found.num_pairs),
    ]


def targets(numbers: Numbers) -> Context:
    """When each arm reached each target."""
    columns = ["workload", "arm", "target", "reached", "median", f"95{formats.PERCENT} interval",
               "log-rank p against the reference", "status"]  # fmt: skip
    rows = [_target(numbers, found, numbers.view.infos[found.task]) for found in numbers.reachings.values()]
    note = (
        "Gradient evaluations until the validation metric first reached the workload's target, which was set before "
        "any comparison was run. Kaplan-Meier: a run that missed it is censored at its end, one that "
        "diverged at the longest run's."
    )
    return table("Time to target", columns, rows, note=note)


def _target(numbers: Numbers, found: Reaching, info: WorkloadInfo) -> list[str]:
    median = found.median
    return [
        info.title,
        numbers.styles[found.arm].title,
        formats.metric(info, info.target),
        f"{median.num_reached} of {median.num_runs}",
        _time(median.median),
        f"{_time(median.low)} to {_time(median.high)}" if math.isfinite(median.median) else formats.DASH,
        formats.p_value(found.against.p_value) if found.against else formats.DASH,
        median.status,
    ]


def overall(numbers: Numbers, found: Overall) -> Context:
    """Each arm over all workloads."""
    ranks = dict(zip(found.ranking.arms, found.ranking.mean_ranks, strict=True)) if found.ranking else {}
    rows = []
    for arm in found.arms:
        mean, profile = found.means.get(arm), found.profiles[arm]
        rows.append(
            [
                numbers.styles[arm].title,
                formats.significant(mean.value if mean else None),
                _range(mean.interval.low, mean.interval.high) if mean else formats.DASH,
                formats.significant(profile.score),
                formats.significant(ranks.get(arm)),
            ]
        )
    columns = ["arm", "interquartile mean", f"95{formats.PERCENT} interval", "profile score", "mean rank"]
    return table("Over all workloads", columns, rows, most=12)


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
        f"are further apart than {formats.significant(one.critical_difference)} (Nemenyi); grey bars join those that "
        f"are not.{left}"
    )


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return formats.DASH
    return f"{formats.significant(low)} to {formats.significant(high)}"


def _time(value: float) -> str:
    return "never" if math.isinf(value) else formats.count(value)
