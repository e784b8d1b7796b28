"""Runs that nobody tuned beside the best of a sweep."""

from dcao_lab.report import formats
from dcao_lab.report.analysis.untuned import LIMITS, Untuned
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.tables.base import Context, cell, table
from dcao_lab.workloads import WorkloadInfo

NOTE = (
    "Worst start: the worst median of any initial learning rate. Short by: how much worse it is than the best of the "
    f"sweep, negative where it is better; allowed: {LIMITS}. Difference: arm minus sweep, so that of a perplexity less "
    "than zero is better: the mean over seeds of the mean over all starts minus the sweep's best, paired by seed, with "
    "its 95 % bootstrap interval; a diverged run counts as the worst score of its task. The sweep's best was chosen "
    "by these same runs, which favours it. Cost: gradient evaluations of the whole sweep with one seed over those of "
    "the one run, probes included."
)


def untuned(numbers: Numbers) -> Context:
    """A row for each arm and sweep."""
    columns = ["workload", "arm", "against the best of", "best", "worst start", "best start", "short by", "allowed",
               "within", "difference", f"95{formats.PERCENT} interval", "seeds", "cost of the sweep"]  # fmt: skip
    rows = [_row(numbers, one) for one in numbers.untuned]
    return table("One run that nobody tuned, against a sweep", columns, rows, note=NOTE)


def _row(numbers: Numbers, one: Untuned) -> list[object]:
    info = numbers.view.infos[one.task]
    swept = f"{one.num_swept} initial learning rates"
    return [
        info.title,
        cell(numbers.styles[one.arm].title, f"{len(one.starts)} starts"),
        cell(numbers.styles[one.other].title, swept),
        cell(_value(info, one.best), "" if one.best is None else f"at {formats.learning_rate(one.best_lr)}"),
        _value(info, one.worst),
        _value(info, one.best_start),
        f"{formats.difference(info, one.short)} {formats.difference_unit(info)}",
        formats.difference(info, one.allowed),
        "yes" if one.is_within else "no",
        f"{formats.difference(info, one.found.difference)} {formats.difference_unit(info)}",
        formats.interval(info, one.found.interval),
        str(one.found.num_pairs),
        f"{formats.significant(one.cost_ratio)} runs",
    ]


def _value(info: WorkloadInfo, value: float | None) -> str:
    return "diverged" if value is None else formats.metric(info, value)
