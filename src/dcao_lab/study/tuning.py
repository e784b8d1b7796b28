"""What tuning chose: the best of an arm's trials on a workload, by the results that the store has of them."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from dcao_lab.config import RunConfig
from dcao_lab.runs.result import Outcome, RunResult
from dcao_lab.study.design import SearchPoint, searched_point
from dcao_lab.study.plan import Pair
from dcao_lab.study.result import PlannedRun
from dcao_lab.workloads import get_workload

End = tuple[float | None, float | None]
"""Of a trial, on validation data at the end: the workload's metric, None for a run that diverged, and the loss."""


def choices(trials: Sequence[PlannedRun], results: Mapping[RunConfig, RunResult]) -> dict[Pair, SearchPoint]:
    """The best point of every workload and arm in ``trials``; the defaults where no trial has a value.

    Args:
        trials: All trials of these workloads and arms, in the order of the design.
        results: What the trials came to. One that is not here ranks with those that diverged, behind all others.
    """
    pairs: defaultdict[Pair, list[PlannedRun]] = defaultdict(list)
    for run in trials:
        pairs[run.task.workload, run.arm.name].append(run)
    return {pair: _choice(members, results) for pair, members in pairs.items()}


def rank(end: End, higher_is_better: bool) -> tuple[bool, float, float]:
    """A key that sorts trials, the best first: by the metric, then by the loss; those without a metric come last.

    Example:
        >>> min([(0.9, 0.4), (0.9, 0.3), (None, None)], key=lambda end: rank(end, higher_is_better=True))
        (0.9, 0.3)
    """
    value, loss = end
    sign = -1.0 if higher_is_better else 1.0
    return value is None, sign * (value or 0.0), math.inf if loss is None else loss


def end_of(result: RunResult | None, metric: str) -> End:
    """What choosing needs of a trial's result; None stands for a trial that could not be done."""
    if result is None or result.outcome is Outcome.DIVERGED:
        return None, None
    return result.final[f"validation_{metric}"], result.final["validation_loss"]


def _choice(trials: list[PlannedRun], results: Mapping[RunConfig, RunResult]) -> SearchPoint:
    info = get_workload(trials[0].task.workload).info
    ends = [end_of(results.get(run.config), info.metric) for run in trials]
    chosen = trials[min(range(len(trials)), key=lambda index: rank(ends[index], info.higher_is_better))]
    return searched_point(chosen.arm, chosen.config)
