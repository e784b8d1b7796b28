"""Reading a log of records, and the proof that it explains itself: the same policy decides the same again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from dcao.policies.base import Decision, Policy, State
from dcao.telemetry import StepRecord


def read_jsonl(path: str | os.PathLike[str]) -> list[StepRecord]:
    """Records of a :class:`JsonlRecorder`; a last line cut short by a kill is left out.

    Raises:
        ValueError: A complete line is not a record; the message says which line.

    Example:
        >>> import math, tempfile
        >>> from dcao import Hyperparameters, JsonlRecorder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "log.jsonl")
        ...     here = Hyperparameters(lr=0.1)
        ...     record = StepRecord(
        ...         step=0, loss=math.nan, estimate=None, observation=None, before=here, after=here, cost=0.0,
        ...         total_cost=0.0, seconds=0.0, decision=Decision(hyperparameters=here, reason="step skipped"),
        ...     )
        ...     JsonlRecorder(path).record(record)
        ...     read_jsonl(path)[0].decision.reason
        'step skipped'
    """
    text = Path(path).read_text(encoding="utf-8")
    lines = text.splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(StepRecord.from_dict(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines) or text.endswith("\n"):
                raise ValueError(f"{path}, line {number} is no record of DCAO: {error}") from error
    return records


def replay(log: Iterable[StepRecord] | str | os.PathLike[str], policy: Policy) -> list[Decision]:
    """Decisions of ``policy`` on the observations of a log, in order.

    Policies are pure, so the policy that wrote the log gives the log's own decisions, and another one shows what it
    would have decided on the same measurements.

    Args:
        log: Records, or the path of a JSONL file. Records on which no policy decided are passed over.
        policy: The policy to ask.

    Example:
        >>> from dcao import policies
        >>> replay([], policies.Fixed())
        []
    """
    records = read_jsonl(log) if isinstance(log, (str, os.PathLike)) else log
    state: State | None = None
    decisions = []
    for record in records:
        if record.observation is not None:
            state = policy.init(record.observation.hyperparameters) if state is None else state
            decision, state = policy.propose(record.observation, state)
            decisions.append(decision)
        elif record.turned_at is not None and state is not None:
            state = policy.turned_back(record.turned_at, state)
    return decisions
