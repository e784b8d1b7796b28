"""The table of cells: where one run that nobody tuned is within the goal of a sweep, and where it is not."""

import re

from dcao_lab.report import formats
from dcao_lab.report.analysis import cells as analysis
from dcao_lab.report.analysis.cells import ArmCells, HeadToHead, TaskCells
from dcao_lab.report.analysis.forgetting import Forgetting
from dcao_lab.report.analysis.untuned import LIMITS, SHARE
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.tables.base import DIVERGED, Cell, Column, Columns, Fill, Row, Table, by_workload, values, words
from dcao_lab.workloads import WorkloadInfo, get_workload

NOT_RUN, NOT_OVER = "not run", "not over"  # an arm, a sweep
COUNTS_NOTE = (
    "A cell is a workload and a sweep. It is within the goal where the median over seeds of the final test metric of "
    f"the run that nobody tuned is at most so much worse than at the sweep's best learning rate: {LIMITS}. The best is "
    "chosen from the learning rates that were run with all seeds, by validation data where the sweep grows, and of a "
    "fixed grid by these same medians, which favours it. A cell is open while runs are missing; a diverged run counts "
    "as worse than every other. A workload is whole where all of its cells are within the goal. DCAO, around the same "
    "optimizer, is ahead of an arm or behind it where their medians differ by more than 1 point of accuracy or 2 % of "
    "another metric; elsewhere they are level."
)
FORGETTING_NOTE = (
    "Loss on held-out data of what the network knew before, medians over seeds: before training, after the run that "
    "nobody tuned, and after a run at each sweep's best learning rate. In bold: where the run that nobody tuned ends "
    "more than 2 % above it."
)
_VERDICTS = ("ahead", "level", "behind")


def tables(numbers: Numbers) -> list[Table]:
    """All of it: the counts of every arm, each arm of DCAO task by task, and what is forgotten."""
    return [counts(numbers), *(by_task(numbers, one) for one in numbers.cells if one.is_wrapped), forgetting(numbers)]


def by_task(numbers: Numbers, one: ArmCells) -> Table:
    """A row for each task of the study: an arm that nobody tuned beside the best of each of its sweeps."""
    others = [cell.other for cell in one.tasks[0].cells]
    columns = [
        Column(title="workload", paper="Workload", is_text=True),
        Column(title="metric", paper="Metric", is_text=True),
        Column(title=numbers.title(one.arm), paper=numbers.title(one.arm)),
        *(Column(title=f"best {numbers.title(other)}", paper=f"Best {numbers.title(other)}") for other in others),
        Column(title="cells", paper="Cells", is_text=True),
    ]
    return Table(
        name="cells_" + re.sub(r"\W+", "_", one.arm),
        label=f"Cells of {numbers.title(one.arm)}",
        columns=columns,
        rows=[_row(task) for task in one.tasks],
        note=_misses(one),
    )


def _row(task: TaskCells) -> Row:
    info = get_workload(task.task).info
    own = _median(info, task.median) if task.num_seeds else NOT_RUN
    return [info.title, formats.metric_title(info), own, *(_best(info, cell) for cell in task.cells), _counted(task)]


def _median(info: WorkloadInfo, value: float | None) -> str:
    return DIVERGED if value is None else formats.metric(info, value)


def _best(info: WorkloadInfo, cell: analysis.Cell) -> Cell:
    if cell.best_lr is None:
        return Cell(text=NOT_OVER)
    detail = f"at {formats.learning_rate(cell.best_lr)}"
    if cell.is_missed and cell.short is not None:
        detail += f", missed by {formats.difference(info, cell.short).lstrip('+')}"
        detail += " points" if info.metric == "accuracy" else ""
    return Cell(text=_median(info, cell.best), detail=detail, is_bold=cell.is_missed)


def _counted(task: TaskCells) -> str:
    num_open = sum(cell.is_open for cell in task.cells)
    counted = len(task.cells) - num_open
    within = f"{sum(cell.is_within for cell in task.cells)} of {counted}" if counted else ""
    return formats.joined(within, f"{num_open} open" if num_open else "")


def _misses(one: ArmCells) -> str:
    titles = [get_workload(task).info.title for task in one.misses]
    return f"In bold: what it misses, on {formats.listed(titles)}." if titles else ""


def counts(numbers: Numbers) -> Table:
    """A row for each arm that nobody tuned: its cells, its whole tasks, and DCAO head to head with it."""
    duels: dict[str, HeadToHead] = {}
    for duel in numbers.head_to_heads:
        duels.setdefault(duel.other, duel)
    columns = [
        Column(title="arm", paper="Arm", is_text=True),
        Column(title="cells within the goal", paper="Cells", is_text=True),
        Column(title="workloads whole", paper="Whole", is_text=True),
    ]
    if duels:
        columns += [Column(title=f"DCAO {verdict}", paper=verdict.capitalize()) for verdict in _VERDICTS]
    rows = [
        [numbers.title(one.arm), within(one), whole(one), *(_duel(duels.get(one.arm)) if duels else ())]
        for one in numbers.cells
    ]
    return Table(name="cells", label="Cells within the goal", columns=columns, rows=rows, note=COUNTS_NOTE)


def _duel(duel: HeadToHead | None) -> list[str]:
    if duel is None or not (duel.ahead or duel.level or duel.behind):
        return [formats.DASH] * len(_VERDICTS)
    return [str(len(tasks)) for tasks in (duel.ahead, duel.level, duel.behind)]


def within(one: ArmCells) -> str:
    """An arm's cells within the goal, of those that count: ``35 of 46``, or ``35 of 44, 2 open``."""
    return _of(one.num_within, one.num_cells, one.num_open)


def whole(one: ArmCells) -> str:
    """Its whole tasks, of those without an open cell."""
    return _of(one.num_whole, one.num_tasks, len(one.tasks) - one.num_tasks)


def _of(number: int, total: int, num_open: int) -> str:
    return formats.joined(f"{number} of {total}" if total else "", f"{num_open} open" if num_open else "")


def forgetting(numbers: Numbers) -> Table:
    """What each arm of DCAO has made pretrained networks forget, beside the best of each sweep."""
    others = dict.fromkeys(other for one in numbers.forgetting for other in one.at_best)
    schedules = dict.fromkeys(numbers.view.study.arm(other).schedule for other in others)
    columns: Columns[Forgetting] = (
        words("arm", "Arm", lambda f, _: numbers.title(f.arm)),
        values("before training", "Before", lambda f, _: formats.significant(f.before)),
        values("after", "After", lambda f, _: _loss(f.after)),
        *(values(f"at the best {name} lr", f"Best {name}", _at_best(numbers, name)) for name in schedules),
    )
    label = "What pretrained networks forget"
    return by_workload(numbers, numbers.forgetting, columns, name="forgetting", label=label, note=FORGETTING_NOTE)


def _at_best(numbers: Numbers, schedule: str) -> Fill[Forgetting]:
    """What fills the column of the sweeps with this schedule."""

    def fill(one: Forgetting, _: WorkloadInfo) -> Cell | str:
        found = [v for other, v in one.at_best.items() if numbers.view.study.arm(other).schedule == schedule]
        if not found:
            return formats.DASH
        return Cell(text=_loss(found[0]), is_bold=_is_more(one.after, found[0]))

    return fill


def _is_more(after: float | None, at_best: float | None) -> bool:
    if after is None or at_best is None:
        return after is None and at_best is not None
    return after > (1 + SHARE) * at_best


def _loss(value: float | None) -> str:
    return DIVERGED if value is None else formats.significant(value)
