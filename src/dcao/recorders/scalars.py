"""The numbers of a record that are worth a curve."""

from __future__ import annotations

from dcao.telemetry import StepRecord

PREFIX = "dcao/"
"""In front of every name that a tracker gets."""

REASON = PREFIX + "reason"
"""The name of the decision's reason, in words."""


def scalars_of(record: StepRecord) -> dict[str, float]:
    """The numbers of a record that are known, by their names in a tracker; lr is the one that trains from here on."""
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
    return {PREFIX + name: value for name, value in values.items() if value is not None}
