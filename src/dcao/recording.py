"""From a decision that was carried out to a record that is written, whatever becomes of the disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dcao.policies.base import Decision, Hyperparameters, Observation
from dcao.probing.estimate import CurvatureEstimate
from dcao.telemetry import Recorder, StepRecord, record_or_warn

if TYPE_CHECKING:
    from dcao.loop import ProbeLoop


class Recording:
    """Writes records to a recorder.

    Args:
        recorder: Takes the records; None: nothing is written.
        loop: Knows the step, the cost, and the hyperparameters that train from here on.
    """

    def __init__(self, recorder: Recorder | None, loop: ProbeLoop) -> None:
        self.recorder, self.loop = recorder, loop

    def write(
        self,
        decision: Decision,
        before: Hyperparameters,
        loss: float | None,
        started: float,
        estimate: CurvatureEstimate | None = None,
        observation: Observation | None = None,
    ) -> None:
        """Write one record; ``started`` is the time of ``time.perf_counter`` at which its work began.

        A training loss that is not known is the probe's.
        """
        if self.recorder is None:
            return
        record = StepRecord(
            step=self.loop.num_steps,
            loss=estimate.loss if loss is None and estimate is not None else loss,
            estimate=estimate,
            observation=observation,
            decision=decision,
            before=before,
            after=self.loop.controller.hyperparameters(),
            cost=0.0 if estimate is None else estimate.cost,
            total_cost=self.loop.cost,
            seconds=time.perf_counter() - started,
        )
        record_or_warn(self.recorder, record)
