"""How smoothly the runs of each arm went."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

import dcao
from dcao_lab.report.analysis.view import Place, StudyView, finite_median
from dcao_lab.runs.runner import StoredRun

EDGE = 2.0
SMOOTHING = 9  # probes in the running median of s


@dataclass(frozen=True, kw_only=True)
class Smoothness:
    """How smoothly the runs of one place went: medians over seeds.

    Attributes:
        place: Task, arm and conditions.
        oscillation: Of the training loss, by the run's formula; None where no run has it.
        largest_rise: Of the training loss.
        gradient_norm: At the last evaluation.
        parameter_norm: At the last evaluation.
        update_norm: At the last evaluation.
        num_probes: Probes of the watched runs that have an s.
        share_above_edge: Share of them with s above 2; None without probes.
        median_s: Their median; None without probes.
    """

    place: Place
    oscillation: float | None
    largest_rise: float | None
    gradient_norm: float | None
    parameter_norm: float | None
    update_norm: float | None
    num_probes: int
    share_above_edge: float | None
    median_s: float | None

    @property
    def task(self) -> str:
        """Name of the workload."""
        return self.place.task


def smoothness(view: StudyView) -> tuple[Smoothness, ...]:
    """How smoothly every place went that has runs that count or were watched."""
    places = dict.fromkeys((*view.finals, *view.watched))
    return tuple(_smoothness(view, place, view.finals.get(place, ())) for place in places)


def _smoothness(view: StudyView, place: Place, runs: tuple[StoredRun, ...]) -> Smoothness:
    probed = [s for run in view.watched.get(place, ()) for record in run.probes if (s := stability_number(record))]
    return Smoothness(
        place=place,
        oscillation=finite_median(run.result.oscillation for run in runs),
        largest_rise=finite_median(run.result.largest_rise for run in runs),
        gradient_norm=finite_median(run.points[-1].gradient_norm for run in runs),
        parameter_norm=finite_median(run.points[-1].parameter_norm for run in runs),
        update_norm=finite_median(run.points[-1].update_norm for run in runs),
        num_probes=len(probed),
        share_above_edge=sum(s > EDGE for s in probed) / len(probed) if probed else None,
        median_s=finite_median(probed),
    )


def stability_number(record: dcao.StepRecord) -> float | None:
    """The probe's s where it is positive; None otherwise (a record of the guard has no estimate at all)."""
    s = None if record.estimate is None else record.estimate.s
    return s if s is not None and s > 0.0 else None


def preconditioned_number(record: dcao.StepRecord) -> float | None:
    """S by the largest eigenvalue of the preconditioned Hessian; None where the probe did not measure it."""
    return None if record.estimate is None else record.estimate.stability.get("preconditioned")


def largest_ritz_value(record: dcao.StepRecord) -> float | None:
    """The largest Ritz value of the loss Hessian that the probe measured; None where it measured none."""
    if record.estimate is None:
        return None
    return record.estimate.ritz_values[0] if record.estimate.ritz_values else record.estimate.sharpness


def running_median(values: Sequence[float]) -> list[float]:
    """The values without their outliers: what it is for is a slow trace with some on either side.

    Example:
        >>> running_median([1.0, 1.0, 9.0, 1.0, 1.0])
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    return median_filter(np.array(values), size=SMOOTHING, mode="nearest").tolist() if values else []
