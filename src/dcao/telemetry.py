"""What happened at each probe, and where it is written."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcao.policies.base import NO_SHAPE, Decision, Hyperparameters, LrShape, Observation
from dcao.probing.estimate import CurvatureEstimate
from dcao.spectra.lanczos import LanczosStatus
from dcao.telling.notices import Notices


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One probe, one spectrum that only informs, or one step that the guard skipped.

    Attributes:
        step: Optimizer step that comes next; 0 is the first.
        loss: Training loss if known, else the probe's.
        estimate: What the probe measured; None for a guard record.
        observation: What the policy saw; None where it was not asked: for a guard record, and for a spectrum between
            probes.
        decision: What it answered, with its reason in words.
        before: Hyperparameters that would have trained without the decision.
        after: Hyperparameters that train from here on; a bound may have kept them from the decision's, and under a
            scheduler lr is a part of it: observation and decision are at the top of the scheduler's shape.
        cost: Gradient evaluations that this probe spent beyond the training step.
        total_cost: Gradient evaluations that all probes so far have spent.
        seconds: Wall-clock time that this probe took.
    """

    step: int
    loss: float | None
    estimate: CurvatureEstimate | None
    observation: Observation | None
    decision: Decision
    before: Hyperparameters
    after: Hyperparameters
    cost: float
    total_cost: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-plain form; numbers that are not finite become the strings "nan", "inf", "-inf".

        The shape that a scheduler gives to lr is left out where there is none.
        """
        plain = _to_json(dataclasses.asdict(self))
        assert isinstance(plain, dict)
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> StepRecord:
        """Inverse of :meth:`to_dict`."""
        if not isinstance(plain, dict):
            raise TypeError(f"a record must be a JSON object, got {type(plain).__name__}")
        fields = _from_json(plain)
        estimate, observation = fields.pop("estimate"), fields.pop("observation")
        return cls(
            estimate=None if estimate is None else _estimate(estimate),
            observation=None if observation is None else _observation(observation),
            decision=_decision(fields.pop("decision")),
            before=_hyperparameters(fields.pop("before")),
            after=_hyperparameters(fields.pop("after")),
            **fields,
        )


class Recorder(ABC):
    """Stores records as they come. A subclass has to write :meth:`record`, which is called between steps."""

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


class JsonlRecorder(Recorder):
    """Recorder that appends one JSON line per record to a file, so that a killed run keeps what it had.

    Args:
        path: File to append to; folders are made. A resumed run goes on in the same file; a last line that a kill cut
            short is removed first.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def record(self, record: StepRecord) -> None:
        """Append a record to the file."""
        _finish_last_line(self.path)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.to_dict(), allow_nan=False) + "\n")


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
        for name, value in _scalars(record).items():
            self._writer.add_scalar(f"dcao/{name}", value, record.step)
        self._writer.add_text("dcao/reason", record.decision.reason, record.step)
        self._writer.flush()

    def __getstate__(self) -> dict[str, Any]:
        return {"log_dir": self.log_dir}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["log_dir"])  # type: ignore[misc]


class SafeRecording:
    """Hands records to a recorder, whose failure must not stop the training.

    Args:
        recorder: Takes the records; None: they are dropped.
        notices: Tells the caller that one was lost.
    """

    def __init__(self, recorder: Recorder | None, notices: Notices) -> None:
        self.recorder, self.notices = recorder, notices
        self._has_worked = False

    def record(
        self, *, estimate: CurvatureEstimate | None = None, observation: Observation | None = None, **fields: Any
    ) -> None:
        """Store a record; an error that a full disk cannot explain is raised if it is the first one's."""
        if self.recorder is None:
            return
        cost = 0.0 if estimate is None else estimate.cost
        record = StepRecord(estimate=estimate, observation=observation, cost=cost, **{"seconds": 0.0, **fields})
        try:
            self.recorder.record(record)
            self._has_worked = True
        except Exception as error:
            if not (self._has_worked or isinstance(error, OSError)):
                raise  # a mistake of the caller's
            self.notices.tell(
                "recorder",
                f"the recorder failed, and this record is lost: {error}. Training goes on, and each record is tried; "
                f"others that fail are not told. Fix: give {type(self.recorder).__name__} a place that can be written",
                RuntimeWarning,
            )


def _finish_last_line(path: Path) -> None:
    """Add a missing newline to a last line that is a whole record; remove one that is not."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        content = file.read()
        begin = content.rfind(b"\n") + 1
        try:
            StepRecord.from_dict(json.loads(content[begin:]))
        except (ValueError, KeyError, TypeError):
            file.truncate(begin)
        else:
            file.write(b"\n")


def _scalars(record: StepRecord) -> dict[str, float]:
    values: dict[str, float | None] = {
        "loss": record.loss,
        "lr": record.after.lr,
        "momentum": record.after.momentum,
        "weight_decay": record.after.weight_decay,
        "total_cost": record.total_cost,
    }
    if record.estimate is not None:
        values |= {"s": record.estimate.s, "trust": record.estimate.trust, "sharpness": record.estimate.sharpness}
        values |= {f"stability/{name}": s for name, s in record.estimate.stability.items()}
    return {name: value for name, value in values.items() if value is not None}


def _to_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, LanczosStatus):
        return value.name
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items() if not (key == "shape" and item == _NO_SHAPE)}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    return value


_NO_SHAPE = dataclasses.asdict(NO_SHAPE)
_WORDS = ("reason", "measure", "hvp", "status")  # a reason may read "nan" and stays a word


def _from_json(value: Any) -> Any:
    if value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, dict):
        return {key: item if key in _WORDS else _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return value


def _estimate(fields: dict[str, Any]) -> CurvatureEstimate:
    status = fields.pop("status")
    fields |= {name: tuple(fields[name]) for name in ("ritz_values", "residuals")}
    return CurvatureEstimate(status=None if status is None else LanczosStatus[status], **fields)


def _observation(fields: dict[str, Any]) -> Observation:
    return Observation(hyperparameters=_hyperparameters(fields.pop("hyperparameters")), **fields)


def _decision(fields: dict[str, Any]) -> Decision:
    return Decision(hyperparameters=_hyperparameters(fields.pop("hyperparameters")), **fields)


def _hyperparameters(fields: dict[str, Any]) -> Hyperparameters:
    shape = fields.pop("shape", None)
    return Hyperparameters(shape=NO_SHAPE if shape is None else LrShape(**shape), **fields)
