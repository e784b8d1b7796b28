"""From a decision that was carried out to a record that is written, whatever becomes of the disk."""

from __future__ import annotations

import time
import warnings

from dcao.controller import Controller
from dcao.policies.base import Decision, Hyperparameters, Observation
from dcao.probing.estimate import CurvatureEstimate
from dcao.telemetry import Recorder, StepRecord


class Recording:
    """Writes records to a recorder.

    Args:
        recorder: Takes the records; None: nothing is written.
        controller: Knows the hyperparameters that train from here on.
    """

    def __init__(self, recorder: Recorder | None, controller: Controller) -> None:
        self.recorder, self.controller = recorder, controller

    def write(
        self,
        step: int,
        decision: Decision,
        before: Hyperparameters,
        loss: float | None,
        started: float,
        total_cost: float,
        estimate: CurvatureEstimate | None = None,
        observation: Observation | None = None,
    ) -> None:
        """Write one record; ``started`` is the time of ``time.perf_counter`` at which its work began."""
        if self.recorder is None:
            return
        record = StepRecord(
            step=step,
            loss=loss,
            estimate=estimate,
            observation=observation,
            decision=decision,
            before=before,
            after=self.controller.hyperparameters(),
            cost=0.0 if estimate is None else estimate.cost,
            total_cost=total_cost,
            seconds=time.perf_counter() - started,
        )
        try:
            self.recorder.record(record)
        except OSError as error:  # a full disk must not stop the training
            warnings.warn(f"the recorder failed, and this record is lost: {error}", RuntimeWarning, stacklevel=2)
