"""The course of a run so far: what the records of a log say, as columns of numbers that only grow."""

import json
import math
from array import array
from collections import Counter
from typing import Any

EDGE = 2.0
"""The stability number at which every optimizer stops being stable."""


class Series:
    """A value over the optimizer steps; nan is a gap, also where a resumed run goes back to an earlier step."""

    def __init__(self) -> None:
        self.steps, self.values = array("d"), array("d")

    def add(self, step: int, value: float) -> None:
        """Append a point."""
        if self.steps and step < self.steps[-1]:
            self.steps.append(step)
            self.values.append(math.nan)
        self.steps.append(step)
        self.values.append(value)


class Course:
    """What the lines of a log say.

    Lines are read as plain JSON, without torch: a view beside a training should cost it little.

    Attributes:
        loss: The training loss.
        s: The stability number; infinite where the loss is not finite one step away.
        lr: The learning rate from there on.
        num_records: Records so far.
        num_unreadable: Whole lines that are no records.
        step: Step of the last record; None before the first.
        reason: The last decision's, in the words of the log.
        events: How often each thing happened that a picture of the run would mark.
    """

    def __init__(self) -> None:
        self.loss, self.s, self.lr = Series(), Series(), Series()
        self.num_records = self.num_unreadable = 0
        self.step: int | None = None
        self.reason = ""
        self.events: Counter[str] = Counter()

    def add(self, line: bytes) -> None:
        """Take in one line of the log."""
        try:
            plain = json.loads(line)
            step, loss = int(plain["step"]), _number(plain["loss"])
            lr, reason = _number(plain["after"]["lr"]), str(plain["decision"]["reason"])
            has_s = plain["observation"] is not None
            s = _number((plain["estimate"] or {}).get("s"))
            event = event_of(reason, turned_at=plain.get("turned_at"), is_asked=has_s)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.num_unreadable += 1
            return
        self.num_records, self.step, self.reason = self.num_records + 1, step, reason
        self.loss.add(step, loss)
        self.lr.add(step, lr)
        if has_s or not math.isnan(s):
            self.s.add(step, s)
        if event is not None:
            self.events[event] += 1


def event_of(reason: str, *, turned_at: Any, is_asked: bool) -> str | None:
    """What a record would be marked as in a picture by ``dcao.plot``; None for what is usual.

    Example:
        >>> event_of("arrived: lr 0.2 -> 0.1; this probe allows 0.1", turned_at=None, is_asked=True)
        'arrived'
    """
    went_back = "; back to the snapshot of step " in reason
    if turned_at is not None:
        return "turned back" if went_back else "loss turned up"
    if went_back:
        return "restored"
    if "; step skipped (" in reason:
        return "skipped"
    is_arrival = is_asked and any(part.startswith("arrived: ") for part in reason.split("; "))
    return "arrived" if is_arrival else None


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)  # a log has "nan", "inf" and "-inf" as words
