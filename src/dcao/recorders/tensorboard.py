"""The recorder that writes event files for TensorBoard."""

from __future__ import annotations

import os
from typing import Any

from dcao.recorders.base import Recorder
from dcao.recorders.scalars import REASON, scalars_of
from dcao.telemetry import StepRecord


class TensorBoardRecorder(Recorder):
    """Recorder that writes scalars for TensorBoard; needs the package ``tensorboard``.

    Args:
        log_dir: Folder of the event files.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            message = "TensorBoardRecorder needs the package tensorboard: pip install tensorboard"
            raise ImportError(message) from error
        self.log_dir = os.fspath(log_dir)
        self._writer = SummaryWriter(self.log_dir)

    def record(self, record: StepRecord) -> None:
        """Write the numbers of a record under ``dcao/``."""
        for name, value in scalars_of(record).items():
            self._writer.add_scalar(name, value, record.step)
        self._writer.add_text(REASON, record.decision.reason, record.step)
        self._writer.flush()

    def __getstate__(self) -> dict[str, Any]:
        return {"log_dir": self.log_dir}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["log_dir"])  # type: ignore[misc]
