"""Whether DCAO keeps its promise: one run from any initial learning rate ends where the best of a sweep does."""

import math
from dataclasses import dataclass
from statistics import median_low

from dcao_lab.report.analysis.cells import ArmCells, Cell, TaskCells
from dcao_lab.report.analysis.costs import Cost
from dcao_lab.report.analysis.untuned import Untuned
from dcao_lab.report.analysis.view import ArmOnTask, StudyView, finite_median


@dataclass(frozen=True, kw_only=True)
class Pair(ArmOnTask):
    """DCAO around an optimizer on a workload, against the sweep of that optimizer alone.

    Attributes:
        other: Name of the bare optimizer's arm.
        num_starts: Initial learning rates that DCAO was started from.
        num_swept: Learning rates of the sweep.
        best_lr: The best of them; None: the pair is open.
        best: The median there; None: it diverged, or the pair is open.
        worst: Median of DCAO from its worst start; None likewise.
        best_start: Median of DCAO from its best start; None likewise.
        gain: How much better ``worst`` is than ``best``, as a share of ``best``; negative: worse. Infinite where one
            of them diverged; None: the pair is open.
        is_open: Whether runs of it are missing.
        is_kept: Whether it is not open and ``worst`` is within the goal
            (:class:`~dcao_lab.report.analysis.untuned.Untuned`).
    """

    other: str
    num_starts: int
    num_swept: int
    best_lr: float | None
    best: float | None
    worst: float | None
    best_start: float | None
    gain: float | None
    is_open: bool
    is_kept: bool


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """How long DCAO's training steps take on one workload.

    Attributes:
        task: Name of the workload.
        ratio: Time of a step, probes included, over that of the bare optimizer's; median over runs and optimizers.
        milliseconds: Time of the bare optimizer's step, their median.
    """

    task: str
    ratio: float
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class Promise:
    """The promise in numbers.

    Attributes:
        pairs: Every workload with every optimizer, in the study's order.
        median_gain: Median of the gains; of two in the middle the lower one. None: every pair is open.
        extra_gradients: Gradient evaluations of all probes, over those that trained; None: no run of DCAO is there.
        times: How long steps take.
    """

    pairs: tuple[Pair, ...]
    median_gain: float | None
    extra_gradients: float | None
    times: tuple[StepTime, ...]

    @property
    def judged(self) -> list[Pair]:
        """The pairs that are not open."""
        return [pair for pair in self.pairs if not pair.is_open]

    @property
    def worst(self) -> Pair | None:
        """The judged pair with the lowest gain."""
        return min(self.judged, key=_gain, default=None)


def promise(
    view: StudyView, cells: tuple[ArmCells, ...], untuned: tuple[Untuned, ...], costs: tuple[Cost, ...]
) -> Promise:
    """The promise as the runs that are there keep it."""
    found = {(one.task, one.arm, one.other): one for one in untuned}
    pairs = tuple(
        _pair(view, task, cell, found.get((task.task, task.arm, cell.other)))
        for position in range(len(view.study.tasks))
        for arm in cells
        if arm.is_wrapped
        for task in arm.tasks[position : position + 1]
        for cell in task.cells
    )
    gains = [_gain(pair) for pair in pairs if not pair.is_open]
    return Promise(
        pairs=pairs,
        median_gain=median_low(gains) if gains else None,
        extra_gradients=_extra_gradients(view),
        times=_times(view, costs),
    )


def _pair(view: StudyView, task: TaskCells, cell: Cell, found: Untuned | None) -> Pair:
    whole = found is not None and not (cell.is_open or _lacks_starts(view, found))
    one = found if whole else None
    return Pair(
        task=task.task,
        arm=task.arm,
        other=cell.other,
        num_starts=len(one.starts) if one else 0,
        num_swept=one.num_swept if one else 0,
        best_lr=one.best_lr if one else None,
        best=one.best if one else None,
        worst=one.worst if one else None,
        best_start=one.best_start if one else None,
        gain=_relative_gain(one) if one else None,
        is_open=one is None,
        is_kept=one is not None and one.is_within,
    )


def _lacks_starts(view: StudyView, found: Untuned) -> bool:
    """Whether a learning rate that the study has for one of the two arms has no run yet."""

    def planned(name: str) -> int:
        return sum(each.axis == "lr" and each.has(view.study.arm(name)) for each in view.study.variations)

    return len(found.starts) < planned(found.arm) or found.num_swept < planned(found.other)


def _relative_gain(one: Untuned) -> float:
    if one.worst is None:
        return -math.inf
    if one.best is None:
        return math.inf
    assert one.short is not None, "both medians are finite"
    return -one.short / abs(one.best) if one.best else -one.short


def _gain(pair: Pair) -> float:
    assert pair.gain is not None, "asked for only where the pair is judged"
    return pair.gain


def _extra_gradients(view: StudyView) -> float | None:
    runs = [run for place, own in view.finals.items() if view.is_wrapped(place.arm) for run in own]
    probes = sum(run.result.probe_evaluations for run in runs)
    trained = sum(run.result.gradient_evaluations for run in runs) - probes
    return probes / trained if trained else None


def _times(view: StudyView, costs: tuple[Cost, ...]) -> tuple[StepTime, ...]:
    return tuple(time for task in view.tasks if (time := _time(view, task, costs)) is not None)


def _time(view: StudyView, task: str, costs: tuple[Cost, ...]) -> StepTime | None:
    own = {cost.arm: cost for cost in costs if cost.task == task}
    paid = [cost for cost in own.values() if view.is_wrapped(cost.arm) and cost.reference in own]
    ratio = finite_median(cost.time_ratio for cost in paid)
    bare = finite_median(own[cost.reference].milliseconds for cost in paid if cost.reference)
    return None if ratio is None or bare is None else StepTime(task=task, ratio=ratio, milliseconds=bare)
