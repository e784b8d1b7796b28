"""What a pretrained network forgets while it learns something new: with DCAO, and at the best lr of a sweep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dcao_lab.report.analysis.cells import ArmCells, TaskCells
from dcao_lab.report.analysis.view import ArmOnTask, Place, StudyView
from dcao_lab.runs.runner import Outcome, StoredRun

OLD_DOMAIN = "test_old_domain_loss"  # of the workloads that train a pretrained network


@dataclass(frozen=True, kw_only=True)
class Forgetting(ArmOnTask):
    """The loss on held-out data of what a pretrained network knew before: medians over seeds.

    Attributes:
        before: Before the first step.
        after: At the end of the arm's runs; None: diverged.
        at_best: The same at the best learning rate of each sweep, by the swept arm's name; no entry where it is open.
    """

    before: float | None
    after: float | None
    at_best: dict[str, float | None]


def forgetting(view: StudyView, counted: Sequence[ArmCells]) -> tuple[Forgetting, ...]:
    """What each arm of DCAO forgets on each task whose runs say so."""
    return tuple(
        _of(view, task, _runs(view, task.task, task.arm))
        for one in counted
        if one.is_wrapped
        for task in one.tasks
        if any(OLD_DOMAIN in run.result.final for run in _runs(view, task.task, task.arm))
    )


def _of(view: StudyView, task: TaskCells, own: Sequence[StoredRun]) -> Forgetting:
    swept = {cell.other: _runs(view, task.task, cell.other) for cell in task.cells if cell.best_lr is not None}
    return Forgetting(
        task=task.task,
        arm=task.arm,
        before=_median([run.points[0].metrics.get(OLD_DOMAIN) for run in own]),
        after=_median([_at_end(run) for run in own]),
        at_best={other: _median([_at_end(run) for run in runs]) for other, runs in swept.items() if runs},
    )


def _runs(view: StudyView, task: str, arm: str) -> Sequence[StoredRun]:
    return view.finals.get(Place(task=task, arm=arm), ())


def _at_end(run: StoredRun) -> float | None:
    return None if run.result.outcome is Outcome.DIVERGED else run.result.final.get(OLD_DOMAIN)


def _median(values: Sequence[float | None]) -> float | None:
    """The median, None (divergence) counted as more than every loss; None where the middle one is that."""
    middle = median(math.inf if value is None else value for value in values)
    return middle if math.isfinite(middle) else None
