"""When the runs of each arm reached the target, in gradient evaluations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from scipy import stats

from dcao_lab.report.analysis.view import ArmOnTask, Place, StudyView
from dcao_lab.runs.runner import Outcome, StoredRun
from dcao_lab.statistics import LogRank, TargetMedian, TargetTimes, log_rank, median_time_to_target


@dataclass(frozen=True, kw_only=True)
class Reaching(ArmOnTask):
    """How one arm reaches the target of one task.

    Attributes:
        times: Gradient evaluations to the target, or of the whole run without it, one a run.
        median: Kaplan-Meier median.
        typical: Median over the runs with a missed target as infinity, as AlgoPerf's profiles take it.
        curve: Times and the estimated share of runs that have reached the target by then.
        against: Log-rank test against the arm's reference; None without one.
    """

    times: TargetTimes
    median: TargetMedian
    typical: float
    curve: tuple[tuple[float, float], ...]
    against: LogRank | None


def reachings(view: StudyView) -> dict[Place, Reaching]:
    """How each arm reaches the target under the workload's own conditions."""
    longest = {
        task: max((run.result.gradient_evaluations for run in view.runs(task)), default=0.0) for task in view.tasks
    }
    times = {
        place: _times(place, runs, longest[place.task])
        for place, runs in view.finals.items()
        if place.variation is None
    }
    return {place: _reaching(view, place, times) for place in times}


def _reaching(view: StudyView, place: Place, times: dict[Place, TargetTimes]) -> Reaching:
    own = times[place]
    reference = view.study.arm(place.arm).reference
    other = times.get(Place(task=place.task, arm=reference)) if reference is not None else None
    return Reaching(
        task=place.task,
        arm=place.arm,
        times=own,
        median=median_time_to_target(own),
        typical=_typical(own),
        curve=_curve(own),
        against=None if other is None else log_rank(own, other),
    )


def _times(place: Place, runs: Sequence[StoredRun], longest: float) -> TargetTimes:
    reached = tuple(run.result.target_evaluations is not None for run in runs)
    return TargetTimes(arm=place.arm, times=tuple(_time(run, longest) for run in runs), reached=reached)


def _time(run: StoredRun, longest: float) -> float:
    if run.result.target_evaluations is not None:
        return max(run.result.target_evaluations, 1.0)  # reached before the first step: a time has to be positive
    if run.result.outcome is Outcome.DIVERGED:
        return max(run.config.budget or longest, 1.0)
    return max(run.result.gradient_evaluations, 1.0)


def _typical(times: TargetTimes) -> float:
    return median(t if reached else math.inf for t, reached in zip(times.times, times.reached, strict=True))


def _curve(times: TargetTimes) -> tuple[tuple[float, float], ...]:
    reached = stats.ecdf(times.censored()).cdf
    return ((0.0, 0.0), *zip(reached.quantiles.tolist(), reached.probabilities.tolist(), strict=True))
