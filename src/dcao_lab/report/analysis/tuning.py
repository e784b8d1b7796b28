"""What tuning chose, and how much it mattered."""

from dataclasses import dataclass

from dcao_lab.report.analysis.robustness import is_near
from dcao_lab.report.analysis.view import ArmOnTask, StudyView, final_metric, ignores_lr, ranking
from dcao_lab.runs.runner import StoredRun


@dataclass(frozen=True, kw_only=True)
class Tuned(ArmOnTask):
    """One arm's tuning on one task.

    Attributes:
        chosen_lr: Initial learning rate of the runs that count; None where there are none.
        ignores_lr: Whether that has no effect.
        chosen: Their other settings.
        num_trials: Trials.
        num_diverged: Trials that diverged.
        best: Best final validation metric of a trial.
        median: The trials' median validation metric, diverged ones worst; None when that is one.
        num_near: Trials within 5 % of the best.
    """

    chosen_lr: float | None
    ignores_lr: bool
    chosen: dict[str, object]
    num_trials: int
    num_diverged: int
    best: float | None
    median: float | None
    num_near: int


def tunings(view: StudyView) -> tuple[Tuned, ...]:
    """The tuning of every arm on every task that has trials."""
    return tuple(
        _tuned(view, place.task, place.arm, trials) for place, trials in view.trials.items() if place.variation is None
    )


def _tuned(view: StudyView, task: str, arm: str, trials: tuple[StoredRun, ...]) -> Tuned:
    info = view.infos[task]
    values = sorted((final_metric(trial, info, "validation") for trial in trials), key=ranking(info))
    best, final = values[-1], _first_final(view, task, arm)
    return Tuned(
        task=task,
        arm=arm,
        chosen_lr=final.config.lr if final else None,
        ignores_lr=final is not None and ignores_lr(final.config),
        chosen=dict(final.config.settings) if final else {},
        num_trials=len(values),
        num_diverged=sum(value is None for value in values),
        best=best,
        median=values[(len(values) - 1) // 2],
        num_near=sum(is_near(value, best, info) for value in values),
    )


def _first_final(view: StudyView, task: str, arm: str) -> StoredRun | None:
    """The first run that counts, under the workload's own conditions where there is one."""
    places = [place for place in view.finals if (place.task, place.arm) == (task, arm)]
    first = min(places, key=lambda place: place.variation is not None, default=None)
    return None if first is None else view.finals[first][0]
