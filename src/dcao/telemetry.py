"""What happened at each probe, as plain data: records, and their JSON."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from dcao.policies.base import NO_SHAPE, Decision, Hyperparameters, LrShape, Observation
from dcao.probing.estimate import CurvatureEstimate
from dcao.spectra.lanczos import LanczosStatus


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
        turned_at: The lr at the lowest mean loss, where that has turned up and the policy was told so.
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
    turned_at: float | None = None

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
