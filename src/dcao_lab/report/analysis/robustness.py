"""How much of a hyperparameter's range an arm can be started from."""

from dataclasses import dataclass, replace

from dcao_lab.report.analysis.results import Result, Results, along, result_of
from dcao_lab.report.analysis.view import ArmOnTask, Place, StudyView, ranking
from dcao_lab.runs.runner import StoredRun
from dcao_lab.workloads import WorkloadInfo

TOLERANCE = 0.05  # of the best median; where a result counts as usable


@dataclass(frozen=True, kw_only=True)
class Sweep(ArmOnTask):
    """The final metric of one arm along one axis.

    Attributes:
        axis: What varies.
        source: ``variations``; ``sweep`` where the arm has a sweep of its own; ``trials`` where only the tuning varied
            it (other settings varied too).
        points: Value on the axis, median of the final metric (None: diverged), and each run's metric.
        num_shared: Values that every arm on the axis has: what an arm was tried at more often counts for none.
        num_usable: Those of them whose median is within 5 % of the best median of any arm on the axis. The trials of
            each arm are at values of its own, and all of them count.
    """

    axis: str
    source: str
    points: tuple[tuple[float, float | None, tuple[float | None, ...]], ...]
    num_shared: int = 0
    num_usable: int = 0


def sweeps(view: StudyView, results: Results) -> tuple[Sweep, ...]:
    """Every arm along every axis that was varied, also by a sweep; lr from the tuning where no variation has it."""
    axes = list(dict.fromkeys(variation.axis for variation in view.study.variations))
    found = [_sweep(task, arm.name, axis, "variations", along(results, task, arm.name, axis))
             for task in view.tasks for axis in axes for arm in view.arms(task)]  # fmt: skip
    found += [_sweep(task, arm.name, "lr", "sweep" if arm.sweep else "trials", _trials(view, task, arm.name))
              for task in view.tasks for arm in view.arms(task) if arm.sweep or "lr" not in axes]  # fmt: skip
    drawn = [sweep for sweep in found if len(sweep.points) > 1]
    return tuple(_judged(sweep, drawn, view.infos[sweep.task]) for sweep in drawn)


def _sweep(task: str, arm: str, axis: str, source: str, found: dict[float, Result]) -> Sweep:
    points = tuple((value, result.median, tuple(result.values.values())) for value, result in found.items())
    return Sweep(task=task, arm=arm, axis=axis, source=source, points=points)


def _trials(view: StudyView, task: str, arm: str) -> dict[float, Result]:
    place = Place(task=task, arm=arm)
    by_lr: dict[float, list[StoredRun]] = {}
    for run in view.trials.get(place, ()):
        by_lr.setdefault(run.config.lr, []).append(run)
    return {lr: result_of(place, runs, view.infos[place.task]) for lr, runs in sorted(by_lr.items())}


def _judged(sweep: Sweep, sweeps: list[Sweep], info: WorkloadInfo) -> Sweep:
    rivals = [s for s in sweeps if (s.task, s.axis, s.source) == (sweep.task, sweep.axis, sweep.source)]
    medians = [median for s in rivals for _, median, _ in s.points if median is not None]
    best = max(medians, key=ranking(info), default=None)
    shared = _shared_values(rivals if sweep.source == "variations" else [sweep])
    usable = sum(is_near(median, best, info) for value, median, _ in sweep.points if value in shared)
    return replace(sweep, num_shared=len(shared), num_usable=usable)


def _shared_values(sweeps: list[Sweep]) -> set[float]:
    return set.intersection(*({value for value, _, _ in sweep.points} for sweep in sweeps))


def is_near(value: float | None, best: float | None, info: WorkloadInfo) -> bool:
    """Whether a value of the metric is within a share of :data:`TOLERANCE` of the best one."""
    if value is None or best is None:
        return False
    return ranking(info)(value) >= ranking(info)(best) - TOLERANCE * abs(best)
