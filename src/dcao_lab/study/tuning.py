"""What tuning chose: the best of an arm's trials on a workload, by the results that the store has of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcao_lab.config import RunConfig
from dcao_lab.runs.result import Outcome, RunResult
from dcao_lab.study.design import SearchPoint, searched_point
from dcao_lab.study.plan import Pair
from dcao_lab.study.result import PlannedRun
from dcao_lab.workloads import get_workload


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The outcome of a trial, as far as choosing is concerned.

    Attributes:
        value: The workload's metric on validation data at the end; None: the run diverged or could not be done.
        loss: The validation loss at the end, which decides between equal values.
    """

    value: float | None
    loss: float | None


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


def best(candidates: Sequence[Candidate], higher_is_better: bool) -> int:
    """Index of the best candidate: by value, then by loss, then the earlier one. The first if none has a value.

    Example:
        >>> tied = [Candidate(value=0.9, loss=0.4), Candidate(value=0.9, loss=0.3), Candidate(value=None, loss=None)]
        >>> best(tied, higher_is_better=True)
        1
    """
    sign = -1.0 if higher_is_better else 1.0

    def rank(index: int) -> tuple[bool, float, float]:
        value, loss = candidates[index].value, candidates[index].loss
        return value is None, sign * (value or 0.0), float("inf") if loss is None else loss

    return min(range(len(candidates)), key=rank)


def _choice(trials: list[PlannedRun], results: Mapping[RunConfig, RunResult]) -> SearchPoint:
    info = get_workload(trials[0].task.workload).info
    candidates = [candidate(results.get(run.config), info.metric) for run in trials]
    chosen = trials[best(candidates, info.higher_is_better)]
    return searched_point(chosen.arm, chosen.config)


def candidate(result: RunResult | None, metric: str) -> Candidate:
    """What choosing needs of a trial's result; None stands for a trial that could not be done."""
    if result is None or result.outcome is Outcome.DIVERGED:
        return Candidate(value=None, loss=None)
    return Candidate(value=result.final[f"validation_{metric}"], loss=result.final["validation_loss"])
