"""What happened, in sentences made from the numbers."""

from statistics import median

from dcao_lab.report import formats
from dcao_lab.report.summary import Comparison, Range, WorkloadSummary, best_gap, compare
from dcao_lab.workloads import WorkloadInfo


def headlines(summaries: list[WorkloadSummary]) -> list[str]:
    """The most important sentences: robustness, best result, cost."""
    comparisons = [comparison for summary in summaries for comparison in compare(summary)]
    if not comparisons:
        return ["These runs do not compare an optimizer with and without DCAO."]
    return [_robustness(comparisons), _best(comparisons), _cost(summaries)]


def workload_sentences(summary: WorkloadSummary) -> list[str]:
    """One sentence a pair of optimizers: where each ended over the initial learning rates."""
    return [_ranges(comparison) for comparison in compare(summary)]


def _robustness(comparisons: list[Comparison]) -> str:
    better = sum(comparison.worst_is_better for comparison in comparisons)
    beaten = sum(comparison.worst_beats_best for comparison in comparisons)
    return (
        f"Badly chosen initial learning rate: the worst of them ends better with DCAO than without in "
        f"{_share(better, comparisons)}, and at least as well as the bare optimizer's best in {beaten}."
    )


def _best(comparisons: list[Comparison]) -> str:
    behind = [comparison for comparison in comparisons if not comparison.best_is_as_good]
    return (
        f"Well chosen initial learning rate: the best of them ends at least as well with DCAO as without in "
        f"{_share(len(comparisons) - len(behind), comparisons)}{_gaps(behind)}."
    )


def _gaps(behind: list[Comparison]) -> str:
    """How far behind, at most, in the terms of each metric."""
    metrics = sorted({comparison.info.metric for comparison in behind})
    largest = [max((c for c in behind if c.info.metric == metric), key=best_gap) for metric in metrics]
    spelled = [
        f"{formats.metric(c.info, c.wrapped_range.best)} against {formats.metric(c.info, c.bare_range.best)} "
        f"{formats.metric_title(c.info)} ({c.info.title}, {c.bare.title})"
        for c in largest
    ]
    return f"; where it is behind, the largest gap is {formats.listed(spelled)}" if spelled else ""


def _cost(summaries: list[WorkloadSummary]) -> str:
    costs = [cost for summary in summaries for name, cost in summary.costs.items() if name.startswith("dcao:")]
    evaluations = median(cost.evaluations_per_step for cost in costs)
    times = [cost.time_ratio for cost in costs if cost.time_ratio is not None]
    return (
        f"Cost: a training step with DCAO takes {formats.ratio(evaluations)} gradient evaluations (bare: 1) and "
        f"{_times(times)} (medians over workloads and optimizers)."
    )


def _times(ratios: list[float]) -> str:
    return f"{formats.ratio(median(ratios))} times the time" if ratios else "a time that nothing here compares with"


def _ranges(comparison: Comparison) -> str:
    info = comparison.info
    return (
        f"{comparison.bare.title} ends {_span(info, comparison.bare_range)} over the initial learning rates, "
        f"{comparison.wrapped.title} {_span(info, comparison.wrapped_range)}."
    )


def _span(info: WorkloadInfo, values: Range) -> str:
    worst = "divergence" if values.worst is None else formats.metric(info, values.worst)
    best = "divergence" if values.best is None else formats.metric(info, values.best)
    return f"at {best}" if worst == best else f"between {worst} and {best}"


def _share(number: int, comparisons: list[Comparison]) -> str:
    return f"{number} of {len(comparisons)} comparisons"
