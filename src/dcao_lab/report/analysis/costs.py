"""What a training step costs, against the reference arm's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from dcao_lab.report.analysis.view import ArmOnTask, Place, StudyView, finite_median
from dcao_lab.runs.runner import StoredRun


@dataclass(frozen=True, kw_only=True)
class Cost(ArmOnTask):
    """What an arm spends on a task: medians over its runs that count.

    Attributes:
        reference: Name of the arm that the ratios are over; None where there is none.
        evaluations_per_step: Gradient evaluations a training step, probes included.
        milliseconds: Time of a training step, evaluations of the network not included.
        seconds_per_epoch: Time of a pass over the data; None before the first step.
        evaluations_ratio: Gradient evaluations a step over the reference's, median over pairs of runs.
        time_ratio: Time a step over the reference's, median over pairs of runs.
        peak_megabytes: Largest memory; None where not measured.
        held_copies: What the optimizer holds between steps, in copies of the parameters; None where not counted.
    """

    reference: str | None
    evaluations_per_step: float
    milliseconds: float
    seconds_per_epoch: float | None
    evaluations_ratio: float | None
    time_ratio: float | None
    peak_megabytes: float | None
    held_copies: float | None


def costs(view: StudyView) -> tuple[Cost, ...]:
    """The cost of every arm on every task that has runs that count."""
    return tuple(
        _cost(view, task, arm.name, runs)
        for task in view.tasks
        for arm in view.arms(task)
        if (runs := view.runs(task, arm.name))
    )


def _cost(view: StudyView, task: str, arm: str, runs: Sequence[StoredRun]) -> Cost:
    reference = view.study.arm(arm).reference
    epochs = [run.points[-1].seconds / run.points[-1].epoch for run in runs if run.points[-1].epoch > 0]
    peaks = [run.timing.peak_bytes / 1e6 for run in runs if run.timing.peak_bytes is not None]
    return Cost(
        task=task,
        arm=arm,
        reference=reference,
        evaluations_per_step=median(map(_evaluations_per_step, runs)),
        milliseconds=median(map(_milliseconds, runs)),
        seconds_per_epoch=finite_median(epochs),
        evaluations_ratio=_ratio(view, task, arm, reference, _evaluations_per_step),
        time_ratio=_ratio(view, task, arm, reference, _milliseconds),
        peak_megabytes=finite_median(peaks),
        held_copies=finite_median(run.result.held_copies for run in runs),
    )


def _ratio(
    view: StudyView, task: str, arm: str, reference: str | None, measure: Callable[[StoredRun], float]
) -> float | None:
    """The median ratio over pairs of runs of one seed and the same conditions; None without a pair."""
    if reference is None:
        return None
    ratios = []
    for place, runs in view.finals.items():
        if (place.task, place.arm) == (task, arm):
            other = Place(task=task, arm=reference, variation=place.variation)
            bare = {run.config.seed: measure(run) for run in view.finals.get(other, ())}
            ratios += [measure(run) / bare[run.config.seed] for run in runs if bare.get(run.config.seed)]
    return finite_median(ratios)


def _milliseconds(run: StoredRun) -> float:
    return 1e3 * run.points[-1].seconds / max(1, run.result.num_steps)


def _evaluations_per_step(run: StoredRun) -> float:
    return run.result.gradient_evaluations / max(1, run.result.num_steps)
