"""The runs of a study by their place in it, and how good each is."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from dcao_lab.baselines import get_baseline
from dcao_lab.config import RunConfig
from dcao_lab.report.names import named
from dcao_lab.runs.runner import Outcome, StoredRun
from dcao_lab.study.config import Arm, StudyConfig, Variation
from dcao_lab.study.result import PlannedRun, StudyResult
from dcao_lab.workloads import WorkloadInfo, get_workload

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ArmOnTask:
    """One arm on one task; what is known of the two inherits from it.

    Attributes:
        task: Name of the workload.
        arm: Name of the arm.
    """

    task: str
    arm: str


@dataclass(frozen=True, kw_only=True)
class Place(ArmOnTask):
    """Where a run is in a study: an arm on a task, under its conditions.

    Attributes:
        variation: Change of the conditions; None: none.
    """

    variation: Variation | None = None


Runs = dict[Place, tuple[StoredRun, ...]]


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """A study's runs by their place.

    Attributes:
        study: The study, its arms named as the report names them.
        infos: Facts about each task's workload, by name; only of tasks that have runs.
        finals: The runs that count.
        trials: The runs that tuned.
        watched: The runs that were measured.
    """

    study: StudyConfig
    infos: dict[str, WorkloadInfo]
    finals: Runs
    trials: Runs
    watched: Runs

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that have runs, in the study's order."""
        return tuple(self.infos)

    def arms(self, task: str) -> tuple[Arm, ...]:
        """The arms that have runs on the task, in the study's order."""
        present = {
            place.arm for runs in (self.finals, self.trials, self.watched) for place in runs if place.task == task
        }
        return tuple(arm for arm in self.study.arms if arm.name in present)

    def variations(self, task: str) -> tuple[Variation | None, ...]:
        """The conditions that some run of the task that counts has, in the study's order; None first."""
        present = {place.variation for place in self.finals if place.task == task}
        return tuple(variation for variation in (None, *self.study.variations) if variation in present)

    def runs(self, task: str, arm: str | None = None) -> list[StoredRun]:
        """The runs of the task that count, under all conditions; those of one arm, or of all (None)."""
        return [
            run
            for place, runs in self.finals.items()
            if place.task == task and arm in (None, place.arm)
            for run in runs
        ]

    def is_wrapped(self, arm: str) -> bool:
        """Whether DCAO steers the arm."""
        return get_baseline(self.study.arm(arm).optimizer).is_wrapped


def view(result: StudyResult) -> StudyView:
    """The runs of ``result`` by place, workloads in the study's order, each place's by seed (trials as they come)."""
    runs = in_study_order(result.runs, result.study, lambda pair: pair[0])
    present = {planned.task.workload for planned, _ in runs}
    tasks = [task.workload for task in result.study.tasks if task.workload in present]
    return StudyView(
        study=named(result.study),
        infos={task: get_workload(task).info for task in tasks},
        finals=_by_place(runs, "final"),
        trials=_by_place(runs, "trial"),
        watched=_by_place(runs, "watched"),
    )


def is_default(arm: Arm) -> bool:
    """Whether an arm is DCAO as it comes, with nothing set."""
    return arm.optimizer.startswith("dcao:") and not arm.settings and arm.schedule == "constant"


def is_literal(arm: Arm) -> bool:
    """Whether an arm is the proposal's algorithm to the letter."""
    return arm.optimizer.startswith("dcao-literal:")


def in_study_order(items: Iterable[T], study: StudyConfig, run_of: Callable[[T], PlannedRun]) -> list[T]:
    """What belongs to runs, the workloads in the order of the study; runs themselves are done slow workloads first."""
    position = {task.workload: number for number, task in enumerate(study.tasks)}
    return sorted(items, key=lambda item: position[run_of(item).task.workload])


def ranking(info: WorkloadInfo) -> Callable[[float | None], float]:
    """A key that grows with how good a value of the metric is; None (divergence) is worst."""
    sign = 1.0 if info.higher_is_better else -1.0
    return lambda value: -math.inf if value is None else sign * value


def final_metric(run: StoredRun, info: WorkloadInfo, split: str = "test") -> float | None:
    """The workload's metric at the end of a run; None when it diverged."""
    return None if run.result.outcome is Outcome.DIVERGED else run.result.final[f"{split}_{info.metric}"]


def ignores_lr(config: RunConfig) -> bool:
    """Whether the learning rate that the run was given has no effect: its optimizer finds one."""
    return get_baseline(config.optimizer).ignores_lr(dict(config.settings))


def finite_median(values: Iterable[float | None]) -> float | None:
    """The median of the values that are finite; None without any."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return median(finite) if finite else None


def spelled(variation: Variation | None) -> str:
    """A variation in words, for example ``batch_size=32``; empty for none."""
    return "" if variation is None else f"{variation.axis}={variation.value:g}"


def _by_place(runs: Iterable[tuple[PlannedRun, StoredRun]], phase: str) -> Runs:
    grouped: dict[Place, list[StoredRun]] = {}
    for planned, run in runs:
        if planned.phase == phase:
            place = Place(task=planned.task.workload, arm=planned.arm.name, variation=planned.variation)
            grouped.setdefault(place, []).append(run)
    return {place: tuple(sorted(own, key=lambda run: run.config.seed)) for place, own in grouped.items()}
