"""The proposal's rules for momentum and weight decay (3.2.3): ``x <- x * (1 + gain * (s - target))``, clamped.

Neither rule has a fixed point unless s equals the target: while s is held off it they drift to their bounds. ``anchor``
pulls them back to where they started (in log x, by that share of the distance at each decision); 0 is the proposal's
form. An infinite s says that the step is too long and not by how much: it is left to the learning-rate rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from dcao.policies.base import (
    MIN_TRUST,
    Decision,
    Hyperparameters,
    Observation,
    State,
    reason_to_hold,
    require_bounds,
    require_inside,
    require_min_trust,
    require_target,
)

MAX_FACTOR = 2.0
"""With an anchor, one decision multiplies or divides by at most this: a single wild s must not take momentum to 0, from
which no factor leads back."""


def momentum(
    alpha: float = 0.05,
    *,
    target: float = 1.5,
    min_momentum: float = 0.0,
    max_momentum: float = 0.999,
    anchor: float = 0.1,
    min_trust: float = MIN_TRUST,
) -> AnchoredRule:
    """Rule ``beta <- beta * (1 - alpha * (s - target))``, clamped to its bounds and anchored to its first value.

    Know the sign: for Adam more b1 always stabilises, so this rule pushes the wrong way there; for heavy ball less
    momentum helps only where noise dominates. It is off by default.

    Args:
        alpha: alpha_beta, change of beta per unit of s, relative. Default 0.05: theory.md 3c.
        target: C_target, where the rule is at rest.
        min_momentum: Lower bound.
        max_momentum: Upper bound, below 1.
        anchor: Share of the way back to the first value at each decision, 0 (the proposal) to 1. Default 0.1: a lasting
            error of 1 moves beta by about alpha / anchor, a half, in log beta.
        min_trust: An estimate trusted less is not acted on.

    Example:
        >>> rule = momentum(alpha=0.1, target=1.5, anchor=0.0)
        >>> here = Hyperparameters(lr=0.1, momentum=0.9)
        >>> decision, _ = rule.propose(Observation(step=0, s=2.5, trust=1.0, hyperparameters=here), rule.init(here))
        >>> round(decision.hyperparameters.momentum, 3)
        0.81
    """
    require_bounds("momentum", min_momentum, max_momentum, least=0.0, most=1.0 - 1e-12)
    return AnchoredRule(
        field="momentum",
        gain=-alpha,
        target=target,
        lower=min_momentum,
        upper=max_momentum,
        anchor=anchor,
        min_trust=min_trust,
    )


def weight_decay(
    alpha: float = 0.05,
    *,
    target: float = 1.5,
    min_weight_decay: float = 0.0,
    max_weight_decay: float = 1.0,
    anchor: float = 0.1,
    min_trust: float = MIN_TRUST,
) -> AnchoredRule:
    """Rule ``weight_decay <- weight_decay * (1 + alpha * (s - target))``, clamped and anchored to its first value.

    AdamW decays by ``lr * weight_decay`` a step: when lr moves, so does the decay. Off by default.

    Args:
        alpha: alpha_wd, change of the weight decay per unit of s, relative. Default 0.05: theory.md 3c.
        target: C_target, where the rule is at rest.
        min_weight_decay: Lower bound.
        max_weight_decay: Upper bound.
        anchor: Share of the way back to the first value at each decision, 0 (the proposal) to 1.
        min_trust: An estimate trusted less is not acted on.

    Example:
        >>> rule = weight_decay(alpha=0.1, target=1.5, anchor=0.0)
        >>> here = Hyperparameters(lr=0.1, weight_decay=0.01)
        >>> decision, _ = rule.propose(Observation(step=0, s=2.5, trust=1.0, hyperparameters=here), rule.init(here))
        >>> round(decision.hyperparameters.weight_decay, 4)
        0.011
    """
    require_bounds("weight_decay", min_weight_decay, max_weight_decay, least=0.0, most=float("inf"))
    return AnchoredRule(
        field="weight_decay",
        gain=alpha,
        target=target,
        lower=min_weight_decay,
        upper=max_weight_decay,
        anchor=anchor,
        min_trust=min_trust,
    )


@dataclass(frozen=True, kw_only=True)
class AnchoredRule:
    """See :func:`momentum` and :func:`weight_decay`."""

    settles: ClassVar[bool] = False  # probes before their time look for an lr

    field: Literal["momentum", "weight_decay"]
    gain: float
    target: float
    lower: float
    upper: float
    anchor: float
    min_trust: float

    def __post_init__(self) -> None:
        require_min_trust(self.min_trust)
        if not abs(self.gain) < float("inf"):
            raise ValueError(f"alpha of the {self.field} rule must be finite, got {abs(self.gain)}")
        require_target(self.target)
        if not 0.0 <= self.anchor <= 1.0:
            raise ValueError(f"anchor must be in [0, 1], got {self.anchor}; 0 is the proposal's rule")

    def init(self, hyperparameters: Hyperparameters) -> State:
        """The anchor; checks that there is such a hyperparameter and that it is inside the bounds."""
        value = getattr(hyperparameters, self.field)
        if value is None:
            raise ValueError(f"the {self.field} rule needs an optimizer with {self.field}; this one has none")
        require_inside(self.field, value, self.lower, self.upper)
        return {"anchor": value}

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """The rule, held where the observation should not be acted on."""
        now = observation.hyperparameters
        held = reason_to_hold(observation, self.min_trust)
        if held is None and observation.s == math.inf:
            held = "held: s is infinite"
        if held is not None:
            return Decision(hyperparameters=now, reason=f"{self.field} {held}"), state
        assert observation.s is not None
        value: float = getattr(now, self.field)
        moved = self._clamp(value * self._factor(observation.s))
        settled = self._clamp(moved ** (1.0 - self.anchor) * state["anchor"] ** self.anchor)
        reason = f"s {observation.s:.3g} against target {self.target:g}: {self.field} {value:.4g} -> {settled:.4g}"
        # dataclasses.replace, with the one field that this rule owns
        hyperparameters = replace(now, **{self.field: settled})
        return Decision(hyperparameters=hyperparameters, reason=reason), state

    def _factor(self, s: float) -> float:
        factor = 1.0 + self.gain * (s - self.target)
        return min(max(factor, 1.0 / MAX_FACTOR), MAX_FACTOR) if self.anchor else factor

    def _clamp(self, value: float) -> float:
        return min(max(value, self.lower), self.upper)
