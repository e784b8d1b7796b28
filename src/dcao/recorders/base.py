"""What a recorder is, and the one that keeps records in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod

from dcao.telemetry import StepRecord


class Recorder(ABC):
    """Stores records as they come. A subclass has to write :meth:`record`, which is called between steps.

    What :meth:`record` raises becomes one warning; the training goes on.
    """

    @abstractmethod
    def record(self, record: StepRecord) -> None:
        """Store one record."""


class MemoryRecorder(Recorder):
    """Recorder that keeps every record in ``records``."""

    def __init__(self) -> None:
        self.records: list[StepRecord] = []

    def record(self, record: StepRecord) -> None:
        """Append a record."""
        self.records.append(record)
