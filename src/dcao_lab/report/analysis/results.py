"""Where the runs of each place ended."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dcao_lab.report.analysis.spread import Spread, spread, spread_shares
from dcao_lab.report.analysis.view import Place, StudyView, final_metric, ranking
from dcao_lab.runs.runner import StoredRun
from dcao_lab.statistics import Interval, bootstrap_interval
from dcao_lab.workloads import WorkloadInfo


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the seeds of one place came to.

    Attributes:
        place: Task, arm and conditions.
        values: Final test metric by seed; None where the run diverged.
        median: Their median, a diverged run counted as worse than every other; None when the median run is one.
        spread: What the ends are: of the range of few runs, or the quartiles of more.
        ends: The worse and the better one, a diverged run counted the same way.
        interval: Bootstrap interval of the median; none where a run diverged.
        num_diverged: Runs that diverged.
        rank: 1 for the best median of the same task and conditions; ties share the better rank.
    """

    place: Place
    values: dict[int, float | None]
    median: float | None
    spread: Spread
    ends: tuple[float | None, float | None]
    interval: Interval
    num_diverged: int
    rank: int = 0

    @property
    def task(self) -> str:
        """Name of the workload."""
        return self.place.task


Results = dict[Place, Result]


def results(view: StudyView) -> Results:
    """The result of every place that has runs that count."""
    found = {place: result_of(place, runs, view.infos[place.task]) for place, runs in view.finals.items()}
    return {place: _ranked(result, found, view.infos[place.task]) for place, result in found.items()}


def along(results: Results, task: str, arm: str, axis: str) -> dict[float, Result]:
    """The results of an arm where ``axis`` was varied, by its value, from the smallest."""
    found = [
        (place.variation.value, result)
        for place, result in results.items()
        if (place.task, place.arm) == (task, arm) and place.variation is not None and place.variation.axis == axis
    ]
    return dict(sorted(found, key=lambda pair: pair[0]))


def result_of(place: Place, runs: Sequence[StoredRun], info: WorkloadInfo) -> Result:
    """The result of some runs of one place, not ranked."""
    values = {run.config.seed: final_metric(run, info) for run in runs}
    finite = [value for value in values.values() if value is not None]
    middle, worse, better = _middle_and_ends(list(values.values()), info)
    return Result(
        place=place,
        values=values,
        median=middle,
        spread=spread(len(values)),
        ends=(worse, better),
        interval=_interval(finite, len(values) - len(finite)),
        num_diverged=len(values) - len(finite),
    )


def worst_score(view: StudyView, task: str) -> float | None:
    """What a diverged run of the task counts as where a number is needed.

    The worst of all final values and of the untrained networks: throwing the training away gives the latter.
    """
    info = view.infos[task]
    runs = view.runs(task)
    finals = [final_metric(run, info) for run in runs]
    untrained = [run.points[0].metrics.get(f"test_{info.metric}") for run in runs]
    values = [value for value in (*finals, *untrained) if value is not None and np.isfinite(value)]
    return min(values, key=ranking(info), default=None)


def scores(result: Result, worst: float | None) -> dict[int, float]:
    """The result's values by seed, a diverged run's replaced by ``worst``."""
    filled = {seed: worst if value is None else value for seed, value in result.values.items()}
    return {seed: value for seed, value in filled.items() if value is not None}


def _middle_and_ends(values: list[float | None], info: WorkloadInfo) -> list[float | None]:
    """Median, worse and better end; None where a run decides it that diverged, which is worse than every other."""
    ordered = np.array(sorted(map(ranking(info), values)))
    with np.errstate(invalid="ignore"):  # on the way to minus infinity is nan
        found = [float(np.median(ordered)), *np.quantile(ordered, spread_shares(len(values))).tolist()]
    sign = 1.0 if info.higher_is_better else -1.0
    return [sign * value if np.isfinite(value) else None for value in found]


def _interval(finite: list[float], num_diverged: int) -> Interval:
    if num_diverged:
        return Interval(low=None, high=None, confidence=0.95, status=f"{num_diverged} diverged: no interval")
    return bootstrap_interval([np.array(finite)], np.median)


def _ranked(result: Result, others: Results, info: WorkloadInfo) -> Result:
    rank, place = ranking(info), result.place
    rivals = [o for p, o in others.items() if (p.task, p.variation) == (place.task, place.variation)]
    better = sum(rank(other.median) > rank(result.median) for other in rivals)
    return replace(result, rank=1 + better)
