"""The table of cells: of each arm that nobody tuned, in how many comparisons with a sweep it is within the goal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcao_lab.report.analysis.results import Result, Results
from dcao_lab.report.analysis.untuned import Untuned, is_within, rivals, search_of, starts_of
from dcao_lab.report.analysis.view import ArmOnTask, StudyView, ranking
from dcao_lab.study.config import Arm
from dcao_lab.workloads import WorkloadInfo, get_workload


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm on one task against one sweep.

    Attributes:
        other: Name of the arm that was swept.
        best_lr: Its best learning rate; None while the sweep is not over.
        best: The median there; None: it diverged, or the sweep is not over.
        short: How much worse the arm is, in the metric's unit; None where one of the two diverged or is not there.
        is_open: Whether runs of the study's seeds are missing, so that the cell does not count yet.
        is_within: Whether it counts and is within the goal (:class:`~dcao_lab.report.analysis.untuned.Untuned`).
        is_missed: Whether it counts and is not.
    """

    other: str
    best_lr: float | None
    best: float | None
    short: float | None
    is_open: bool
    is_within: bool
    is_missed: bool


@dataclass(frozen=True, kw_only=True)
class TaskCells(ArmOnTask):
    """The cells of one arm on one task.

    Attributes:
        median: The median of its runs, from its worst start; None: it diverged, or has no run.
        num_seeds: Seeds that it has been run with from every start.
        cells: One for each sweep of its reference's optimizer.
        is_open: Whether a cell is open.
        is_whole: Whether all cells are within the goal.
    """

    median: float | None
    num_seeds: int
    cells: tuple[Cell, ...]
    is_open: bool
    is_whole: bool


@dataclass(frozen=True, kw_only=True)
class ArmCells:
    """The cells of one arm on all tasks of the study.

    Attributes:
        arm: Name of the arm.
        is_wrapped: Whether DCAO steers it.
        tasks: Its cells by task, in the study's order; also of tasks without a run.
        num_cells: Cells that count.
        num_within: Those of them that are within the goal.
        num_open: Cells that do not count yet.
        num_tasks: Tasks without an open cell.
        num_whole: Those of them whose cells are all within the goal.
        misses: Names of the tasks with a cell that is not.
    """

    arm: str
    is_wrapped: bool
    tasks: tuple[TaskCells, ...]
    num_cells: int
    num_within: int
    num_open: int
    num_tasks: int
    num_whole: int
    misses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HeadToHead:
    """An arm of DCAO against another arm that nobody tuned.

    Attributes:
        arm: Name of the arm of DCAO.
        other: Name of the other one.
        ahead: Names of the tasks on which the first has the better median.
        level: Those on which the worse of the two is within 1 point of accuracy or 2 % of the better one.
        behind: Those on which the other one is ahead.
        open: Those on which one of them lacks seeds of the study.
    """

    arm: str
    other: str
    ahead: tuple[str, ...]
    level: tuple[str, ...]
    behind: tuple[str, ...]
    open: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Counting:
    """What cells are counted from: a study's runs, and what came of them by task, arm and swept arm."""

    view: StudyView
    results: Results
    found: Mapping[tuple[str, str, str], Untuned]


def cells(view: StudyView, results: Results, found: Sequence[Untuned]) -> tuple[ArmCells, ...]:
    """The cells of every arm that nobody tuned, in the study's order.

    An arm is held against every sweep of its reference's optimizer (:class:`~dcao_lab.study.config.Sweep`), there or
    not, and against what else ``found`` has: fixed grids of learning rates.
    """
    counting = _Counting(view=view, results=results, found={(one.task, one.arm, one.other): one for one in found})
    pairs = {(one.arm, one.other) for one in found}
    return tuple(
        _of_arm(counting, arm, others)
        for arm in view.study.arms
        if (others := [other for other in rivals(view, arm) if other.sweep or (arm.name, other.name) in pairs])
    )


def head_to_heads(view: StudyView, counted: Sequence[ArmCells]) -> tuple[HeadToHead, ...]:
    """Every arm of DCAO against every other arm that is held against the same sweeps."""
    return tuple(
        _head_to_head(view, own, other)
        for own in counted
        for other in counted
        if own.is_wrapped and not other.is_wrapped and _sweeps(own) == _sweeps(other)
    )


def _sweeps(one: ArmCells) -> list[str]:
    return [cell.other for cell in one.tasks[0].cells]


def _of_arm(counting: _Counting, arm: Arm, others: Sequence[Arm]) -> ArmCells:
    tasks = tuple(_on_task(counting, task.workload, arm, others) for task in counting.view.study.tasks)
    every = [cell for task in tasks for cell in task.cells]
    return ArmCells(
        arm=arm.name,
        is_wrapped=counting.view.is_wrapped(arm.name),
        tasks=tasks,
        num_cells=sum(not cell.is_open for cell in every),
        num_within=sum(cell.is_within for cell in every),
        num_open=sum(cell.is_open for cell in every),
        num_tasks=sum(not task.is_open for task in tasks),
        num_whole=sum(task.is_whole for task in tasks),
        misses=tuple(task.task for task in tasks if any(cell.is_missed for cell in task.cells)),
    )


def _on_task(counting: _Counting, task: str, arm: Arm, others: Sequence[Arm]) -> TaskCells:
    starts = list(starts_of(counting.view, counting.results, task, arm.name).values())
    found = tuple(_cell(counting, task, arm, other) for other in others)
    return TaskCells(
        task=task,
        arm=arm.name,
        median=_worst(starts, get_workload(task).info),
        num_seeds=len(set.intersection(*(set(start.values) for start in starts))) if starts else 0,
        cells=found,
        is_open=any(cell.is_open for cell in found),
        is_whole=all(cell.is_within for cell in found),
    )


def _cell(counting: _Counting, task: str, arm: Arm, other: Arm) -> Cell:
    found = counting.found.get((task, arm.name, other.name))
    is_open = found is None or found.num_seeds < len(counting.view.study.seeds)
    reaches = found is not None and found.is_within
    search = search_of(counting.view, counting.results, task, other)
    return Cell(
        other=other.name,
        best_lr=search.best_lr if search else None,
        best=search.best.median if search else None,
        short=found.short if found else None,
        is_open=is_open,
        is_within=reaches and not is_open,
        is_missed=not (reaches or is_open),
    )


def _worst(starts: Sequence[Result], info: WorkloadInfo) -> float | None:
    return min((start.median for start in starts), key=ranking(info), default=None)


def _head_to_head(view: StudyView, own: ArmCells, other: ArmCells) -> HeadToHead:
    num_seeds = len(view.study.seeds)
    by_verdict: dict[str, list[str]] = {}
    for mine, theirs in zip(own.tasks, other.tasks, strict=True):
        is_open = min(mine.num_seeds, theirs.num_seeds) < num_seeds
        verdict = "open" if is_open else _verdict(get_workload(mine.task).info, mine.median, theirs.median)
        by_verdict.setdefault(verdict, []).append(mine.task)
    found = {verdict: tuple(by_verdict.get(verdict, ())) for verdict in ("ahead", "level", "behind", "open")}
    return HeadToHead(arm=own.arm, other=other.arm, **found)


def _verdict(info: WorkloadInfo, mine: float | None, theirs: float | None) -> str:
    """Two medians against each other; None is a median run that diverged, of which two are level."""
    worse, better = sorted((mine, theirs), key=ranking(info))
    if better is None or is_within(info, better, worse):
        return "level"
    return "ahead" if better == mine else "behind"
