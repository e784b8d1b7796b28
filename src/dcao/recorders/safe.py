"""Recording that cannot stop the training."""

from __future__ import annotations

from typing import Any

from dcao.policies.base import Observation
from dcao.probing.estimate import CurvatureEstimate
from dcao.recorders.base import Recorder
from dcao.telemetry import StepRecord
from dcao.telling.notices import Notices


class SafeRecording:
    """Hands records to a recorder, whose failure must not stop the training.

    Args:
        recorder: Takes the records; None: they are dropped.
        notices: Tells the caller that one was lost.
    """

    def __init__(self, recorder: Recorder | None, notices: Notices) -> None:
        self.recorder, self.notices = recorder, notices

    def record(
        self, *, estimate: CurvatureEstimate | None = None, observation: Observation | None = None, **fields: Any
    ) -> None:
        """Store a record; an error of the recorder is told, once."""
        if self.recorder is None:
            return
        cost = 0.0 if estimate is None else estimate.cost
        record = StepRecord(estimate=estimate, observation=observation, cost=cost, **{"seconds": 0.0, **fields})
        try:
            self.recorder.record(record)
        except Exception as error:
            name = type(self.recorder).__name__
            self.notices.tell(
                "recorder",
                f"the recorder failed, and this record is lost: {type(error).__name__}: {error}. Training goes on, and "
                "each record is tried; others that fail are not told. Fix: mend what the error names, or give "
                f"{name} a place that can be written",
                RuntimeWarning,
            )
