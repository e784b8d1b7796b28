"""Every training step of a run: while it trains, and as a Parquet file."""

from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [("step", pa.int32()), ("loss", pa.float64()), ("lr", pa.float64()), ("gradient_evaluations", pa.float64())]
)


def _numbers() -> "array[float]":
    return array("d")  # 8 bytes a number, and as quick to append to as a list


@dataclass(kw_only=True)
class TrainingLog:
    """What a run writes down at every training step.

    Attributes:
        loss: Mini-batch loss before each step; nan and infinities as they were.
        lr: Learning rate of each step: what trained, whoever set it.
        gradient_evaluations: Spent by the end of each step, probes included.
        seconds: Spent on training between evaluations.
        evaluation_seconds: Spent on evaluations.
    """

    loss: "array[float]" = field(default_factory=_numbers)
    lr: "array[float]" = field(default_factory=_numbers)
    gradient_evaluations: "array[float]" = field(default_factory=_numbers)
    seconds: float = 0.0
    evaluation_seconds: float = 0.0

    @property
    def num_steps(self) -> int:
        """Training steps done."""
        return len(self.loss)


def write_steps(path: Path, log: TrainingLog) -> None:
    """Write one row a step. The same steps give the same bytes: the file has no time and no metadata of its maker's."""
    columns = [np.arange(1, log.num_steps + 1, dtype=np.int32), *map(_copied, (log.loss, log.lr))]
    columns.append(_copied(log.gradient_evaluations))
    table = pa.table([pa.array(column) for column in columns], schema=SCHEMA)
    # Only the lr repeats itself; a dictionary of losses, and minima nobody asks for, are a third of the time.
    pq.write_table(table, path, compression="zstd", use_dictionary=["lr"], write_statistics=False)


def _copied(numbers: "array[float]") -> np.ndarray:
    return np.array(numbers, dtype=np.float64)  # a view would forbid the array to grow while it lives
