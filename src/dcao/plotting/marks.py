"""What happened in a run, as marks: when the rise ended, when the guard took the run back, which steps it skipped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dcao.telemetry import StepRecord


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One kind of event, wherever it happened.

    Attributes:
        name: What a picture calls it.
        steps: Where it happened, at least once.
    """

    name: str
    steps: tuple[int, ...]

    @property
    def label(self) -> str:
        """The name, and how often it happened if that was more than once."""
        return self.name if len(self.steps) == 1 else f"{self.name} {len(self.steps)} times"


ARRIVED, TURNED_BACK, TURNED_UP = "arrived", "turned back", "loss turned up"
RESTORED, SKIPPED = "restored", "skipped"
KINDS = (ARRIVED, TURNED_BACK, TURNED_UP, RESTORED, SKIPPED)


def marks_of(records: Iterable[StepRecord]) -> list[Mark]:
    """The marks of a log, one for each kind that it has.

    ``arrived``: a probe has ended the first rise of lr. ``turned back``: the mean loss had turned up, and the run went
    back to a snapshot; ``loss turned up``: there was none. ``restored``: the run had blown up, and went back to one.
    ``skipped``: the guard left out a step.
    """
    steps: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for record in records:
        kind = _kind(record)
        if kind is not None:
            steps[kind].append(record.step)
    return [Mark(name=kind, steps=tuple(found)) for kind, found in steps.items() if found]


def _kind(record: StepRecord) -> str | None:
    """Logs have reasons in words; these are the words of ``policies.Ceiling`` and of the guard."""
    reason = record.decision.reason
    went_back = "; back to the snapshot of step " in reason
    if record.turned_at is not None:
        return TURNED_BACK if went_back else TURNED_UP
    if went_back:
        return RESTORED
    if "; step skipped (" in reason:
        return SKIPPED
    is_arrival = record.observation is not None and any(part.startswith("arrived: ") for part in reason.split("; "))
    return ARRIVED if is_arrival else None
