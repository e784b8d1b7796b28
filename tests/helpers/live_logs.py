"""Logs of made-up runs, as a JsonlRecorder writes them, for what follows a run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

from dcao import Decision, StepRecord
from helpers.records import ESTIMATE, HERE, RECORD

LAST_REASON = "under the ceiling: lr 0.00205 -> 0.002; this probe allows 0.0031, the last ones 0.0029"


def made_up(index: int, num_records: int) -> StepRecord:
    """The record of a run whose s oscillates, that arrives after a tenth and skips a step three times."""
    share, step = index / max(num_records - 1, 1), 10 * index
    reason = LAST_REASON
    if index == num_records // 10:
        reason = "arrived: lr 0.003 -> 0.002; this probe allows 0.002"
    if index in (num_records // 2, num_records // 2 + 1, num_records // 2 + 2):
        reason = "guard; step skipped (the loss is nan)"
    estimate = replace(ESTIMATE, step=step, s=1.2 + 0.9 * math.sin(20.0 * math.pi * share), loss=1.0)
    return replace(
        RECORD,
        step=step,
        loss=2.0 * math.exp(-2.4 * share),
        estimate=estimate,
        decision=Decision(hyperparameters=HERE, reason=reason),
        after=replace(HERE, lr=2e-3 * min(1.0, 0.01 + 10.0 * share)),
    )


def lines_of(num_records: int, begin: int = 0) -> str:
    """The lines of such a log."""
    records = (made_up(index, num_records) for index in range(begin, num_records))
    return "".join(json.dumps(record.to_dict()) + "\n" for record in records)


def write_log(path: Path, *, num_records: int) -> Path:
    """Write such a log; returns its path."""
    path.write_text(lines_of(num_records), encoding="utf-8")
    return path
