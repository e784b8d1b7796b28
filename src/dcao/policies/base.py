"""What a policy sees and what it answers: plain frozen data, so that a log replays to the same decisions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

State = dict[str, Any]
"""A policy's memory: JSON-plain (numbers, strings, lists, dicts), so that it goes into checkpoints as it is."""

MIN_TRUST = 0.5
"""An estimate trusted less than this is not acted on, by default: its residual is half its value or more."""


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """What trains now. With several param groups: of the reference group, which is the one with the largest lr.

    Attributes:
        lr: Learning rate that the coming step uses.
        momentum: SGD's and RMSprop's ``momentum``, the Adam family's ``betas[0]``; None where there is none.
        weight_decay: Largest of any group (groups exempt from decay stay exempt); None where there is none.
    """

    lr: float
    momentum: float | None = None
    weight_decay: float | None = None


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a policy sees at a probe.

    Attributes:
        step: Optimizer step that comes next; 0 is the first.
        s: Stability number at the present hyperparameters; the edge is at 2. None: it could not be measured.
        trust: How far to trust ``s``: 0 (not at all) to 1.
        hyperparameters: Present values.
        relative_step: Length of the displacement that one batch's gradient leads to over that of the weights; None:
            it was not measured.
    """

    step: int
    s: float | None
    trust: float
    hyperparameters: Hyperparameters
    relative_step: float | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a policy answers.

    Attributes:
        hyperparameters: Values for the coming steps. The controller applies the change of lr and of weight decay as
            a ratio to every group, so ratios between groups are kept.
        reason: Why, in words; goes to the log as it is.
        clipped: True while the lr rule would have moved further than its clip lets it.
    """

    hyperparameters: Hyperparameters
    reason: str
    clipped: bool = False


Plan = Callable[[int, Hyperparameters, State], Hyperparameters]


class Policy(Protocol):
    """Pure: the same observation and state give the same decision.

    A policy that moves hyperparameters between probes as well has a third method,
    ``between(step, hyperparameters, state) -> Hyperparameters``: what trains at a later step, a function of the state
    that the last decision has left. One that gains nothing from probes before their time, because it finds its own
    start or moves no lr, has an attribute ``settles = False``. Else it is asked again and again before the first
    update, then at every step while it changes lr by all it may, and after every s that is five times the edge.
    """

    def init(self, hyperparameters: Hyperparameters) -> State:
        """State before the first decision; ValueError where the present values are out of the policy's bounds."""

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """Decision for the coming steps, and the next state."""


def between(policy: Policy, step: int, hyperparameters: Hyperparameters, state: State) -> Hyperparameters:
    """What ``policy`` has planned for a step without a probe; the present values if it does not plan."""
    plan: Plan | None = getattr(policy, "between", None)
    return hyperparameters if plan is None else plan(step, hyperparameters, state)


def settles(policy: Policy) -> bool:
    """Whether probes before their time help ``policy``."""
    return bool(getattr(policy, "settles", True))


def reason_to_hold(
    observation: Observation, min_trust: float = MIN_TRUST, *, needs_curvature: bool = True
) -> str | None:
    """Why an observation should not be acted on, or None.

    Curvature at or below zero sets no limit to chase; a rule that has other limits does without (``needs_curvature``).
    """
    if not observation.hyperparameters.lr > 0.0:
        return "held: lr is 0"
    if observation.s is None:
        return "held: s was not measured"
    if not observation.trust >= min_trust:
        return f"held: s {observation.s:.3g} is trusted only {observation.trust:.2f}"
    if math.isnan(observation.s) or (needs_curvature and observation.s <= 0.0):
        return f"held: no positive curvature (s {observation.s:.3g})"
    return None


def require_bounds(name: str, lower: float, upper: float, *, least: float, most: float) -> None:
    """Check ``least <= lower <= upper <= most``."""
    if not least <= lower <= upper <= most:
        raise ValueError(f"bounds of {name} must satisfy {least} <= min <= max <= {most}, got {lower} and {upper}")


def require_target(target: float) -> None:
    """Check that a target is a positive number."""
    if isinstance(target, bool) or not isinstance(target, (int, float)):
        raise TypeError(f"target must be a number, got {target!r}; the edge of stability is at 2")
    if not 0.0 < target < float("inf"):
        raise ValueError(f"target must be positive and finite, got {target}; the edge of stability is at 2")


def require_min_trust(min_trust: float) -> None:
    """Check ``0 <= min_trust <= 1``."""
    if not 0.0 <= min_trust <= 1.0:
        raise ValueError(f"min_trust must be in [0, 1], got {min_trust}; 0 acts on every estimate")


def require_inside(name: str, value: float, lower: float, upper: float) -> None:
    """Check that the present value of a hyperparameter is inside a rule's bounds."""
    if not lower <= value <= upper:
        raise ValueError(
            f"bounds of {name} [{lower:g}, {upper:g}] exclude its present value {value:g}; "
            f"widen min_{name} and max_{name}, or start inside them"
        )
