"""The rules of the proposal (3.2.3) for learning rate, momentum and weight decay.

The rules for momentum and weight decay, ``x <- x * (1 + gain * (s - target))``, have no fixed point unless s equals the
target: while s is held off it they drift to their bounds. ``anchor`` pulls them back to their first value (in log x, by
that share of the distance at each decision); 0 is the proposal's form. The lr rule alone acts on an infinite s. Under a
scheduler these two rules act on the s of what trains, and the lr rule on that at the top of the scheduler's shape.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

from dcao.checks import require_number
from dcao.policies.base import (
    MIN_TRUST,
    Decision,
    Hyperparameters,
    Observation,
    Policy,
    State,
    reason_to_hold,
    require_bounds,
    require_inside,
    require_min_trust,
    require_target,
)

ALARM = 10.0
"""s, five times the edge, above which the learning-rate rule asks for a probe before the next step too."""

SETTLING_STEPS = 200
"""In so many first steps the learning-rate rule asks for a probe at every step while it changes lr by all it may."""

MAX_FACTOR = 2.0
"""With an anchor, one decision multiplies or divides by at most this: a single wild s must not take momentum to 0, from
which no factor leads back."""


@dataclass(frozen=True)
class LearningRate(Policy):
    """Rule ``lr <- lr * clip(target / s, gamma_down, gamma_up)``.

    With the measure ``hessian``, s is ``lr * lambda_max`` and this is the proposal's formula as written.

    Args:
        target: C_target, the stability number to hold; the edge is at 2. Default 1.5: inside the proposal's 1.0 to 1.8,
            and the value that the prototype's figures were measured with.
        gamma_down: Smallest factor of one decision, in (0, 1]. Default from the proposal.
        gamma_up: Largest factor of one decision, at least 1. From the proposal; more can resonate with momentum.
        min_lr: Bound on the reference group's lr. Default so low that only float noise is below it.
        max_lr: Bound on the reference group's lr. Curvature that vanishes, as at the end of a separable
            classification, would otherwise raise it without end.
        min_trust: An estimate trusted less is not acted on.
        settle: Ask for probes before their time: before the first update until lr is no longer cut, in the first 200
            steps at every one while the rule is at its clip, and after an s above 10 at the next.
        never_above_schedule: Under a scheduler, never exceed its lr. By default it gives the shape, and the rule the lr
            at the shape's top, where s is at the target.

    Example:
        >>> rule = LearningRate(1.5)
        >>> here = Hyperparameters(lr=0.1)
        >>> decision, _ = rule.propose(Observation(step=0, s=3.0, trust=1.0, hyperparameters=here), rule.init(here))
        >>> round(decision.hyperparameters.lr, 3), decision.reason
        (0.08, 's 3 against target 1.5: lr 0.1 -> 0.08 (clipped at 0.8)')
    """

    target: float = 1.5
    _: KW_ONLY
    gamma_down: float = 0.8
    gamma_up: float = 1.1
    min_lr: float = 1e-10
    max_lr: float = 1e3
    min_trust: float = MIN_TRUST
    settle: bool = True
    never_above_schedule: bool = False

    def __post_init__(self) -> None:
        require_target(self.target)
        require_number("gamma_down", self.gamma_down)
        require_number("gamma_up", self.gamma_up)
        if not 0.0 < self.gamma_down <= 1.0 <= self.gamma_up < float("inf"):
            raise ValueError(
                f"gammas must satisfy 0 < gamma_down <= 1 <= gamma_up, got {self.gamma_down} and {self.gamma_up}"
            )
        require_min_trust(self.min_trust)
        require_bounds("lr", self.min_lr, self.max_lr, least=0.0, most=float("inf"))

    def init(self, hyperparameters: Hyperparameters) -> State:
        """Checks that the present lr is inside the bounds; 0, where a warmup may start, is accepted."""
        if hyperparameters.lr != 0.0:
            require_inside("lr", hyperparameters.lr, self.min_lr, self.max_lr)
        return {"arrived": False, "unsettled": True, "alarmed": False}

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """The rule; lr is held where the observation should not be acted on."""
        now = observation.hyperparameters
        state = {**state, "arrived": state["arrived"] or self._is_at_target(observation)}
        lr, reason, is_clipped = self._rule(observation, state)
        latest = observation if observation.latest_s is None else replace(observation, s=observation.latest_s)
        if reason_to_hold(latest) is None:  # a probe that says nothing settles nothing
            # An outlier is one probe long, a blow-up is not: a wild s is checked at the next step.
            is_wild = latest.s is not None and latest.s > ALARM
            state |= {"unsettled": is_clipped and lr != now.lr, "alarmed": is_wild}
        is_early = observation.step + 1 < SETTLING_STEPS
        again = self.settle and (state["alarmed"] or (state["unsettled"] and is_early))
        return Decision(hyperparameters=replace(now, lr=lr), reason=reason, probe_again=again), state

    def allowed_lr(self, observation: Observation, state: State) -> float | None:
        """The lr at which s would be at the target."""
        s = observation.s
        return observation.hyperparameters.lr * self.target / s if s is not None and s > 0.0 else math.inf

    def _rule(self, observation: Observation, state: State) -> tuple[float, str, bool]:
        """The next lr, why, and whether it would have moved further than the clip lets it."""
        lr = observation.hyperparameters.lr
        held = None if self._is_flat_start(observation, state) else reason_to_hold(observation, self.min_trust)
        if held is not None:
            return lr, f"lr {held}", False
        assert observation.s is not None
        wanted = self.target / observation.s if observation.s > 0.0 else math.inf
        factor = min(max(wanted, self.gamma_down), self.gamma_up)
        moved = min(max(lr * factor, self.min_lr), self.max_lr)
        reason = f"s {observation.s:.3g} against target {self.target:g}: lr {lr:.3g} -> {moved:.3g}"
        is_clipped = factor != wanted
        return moved, reason + (f" (clipped at {factor:g})" if is_clipped else ""), is_clipped

    def _is_at_target(self, observation: Observation) -> bool:
        return reason_to_hold(observation, self.min_trust) is None and (observation.s or 0.0) >= self.target

    def _is_flat_start(self, observation: Observation, state: State) -> bool:
        """On the way up from a small lr, curvature just under zero is no reason to wait: nothing limits the step yet.

        Later it is: along a flat valley the estimates scatter around zero, and growing on half of them runs away.
        """
        s = observation.s
        is_small = s is not None and -self.target < s <= 0.0 and observation.trust >= self.min_trust
        return is_small and not state["arrived"] and observation.hyperparameters.lr > 0.0


@dataclass(frozen=True)
class _AnchoredRule(Policy):
    """What the rules for momentum and weight decay share: ``x <- x * (1 + sign * alpha * (s - target))``, anchored."""

    name: ClassVar[str]
    sign: ClassVar[float]
    largest: ClassVar[float]

    alpha: float = 0.05
    _: KW_ONLY
    target: float = 1.5
    anchor: float = 0.1
    min_trust: float = MIN_TRUST

    def __post_init__(self) -> None:
        require_number("alpha", self.alpha)
        if not abs(self.alpha) < math.inf:
            raise ValueError(f"alpha of the {self.name} rule must be finite, got {abs(self.alpha)}")
        require_bounds(self.name, *self._bounds, least=0.0, most=self.largest)
        require_target(self.target)
        require_number("anchor", self.anchor)
        if not 0.0 <= self.anchor <= 1.0:
            raise ValueError(f"anchor must be in [0, 1], got {self.anchor}; 0 is the proposal's rule")
        require_min_trust(self.min_trust)

    def init(self, hyperparameters: Hyperparameters) -> State:
        """The first value is the anchor; checks that the optimizer has one, inside the bounds."""
        value = getattr(hyperparameters, self.name)
        if value is None:
            raise ValueError(f"the {self.name} rule needs an optimizer with {self.name}; this one has none")
        require_inside(self.name, value, *self._bounds)
        return {"anchor": value}

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """The rule; the value is held where the observation should not be acted on."""
        now, held = observation.hyperparameters, reason_to_hold(observation, self.min_trust)
        if held is None and observation.s == math.inf:
            held = "held: s is infinite"
        if held is not None:
            return Decision(hyperparameters=now, reason=f"{self.name} {held}"), state
        assert observation.s is not None
        s, value = observation.s * now.shape.share, float(getattr(now, self.name))
        moved = self._clamp(value * self._factor(s))
        anchored = self._clamp(moved ** (1.0 - self.anchor) * state["anchor"] ** self.anchor)
        reason = f"s {s:.3g} against target {self.target:g}: {self.name} {value:.4g} -> {anchored:.4g}"
        changed: dict[str, Any] = {self.name: anchored}
        return Decision(hyperparameters=replace(now, **changed), reason=reason), state

    @property
    def _bounds(self) -> tuple[float, float]:
        return getattr(self, f"min_{self.name}"), getattr(self, f"max_{self.name}")

    def _factor(self, s: float) -> float:
        factor = 1.0 + self.sign * self.alpha * (s - self.target)
        return min(max(factor, 1.0 / MAX_FACTOR), MAX_FACTOR) if self.anchor else factor

    def _clamp(self, value: float) -> float:
        lower, upper = self._bounds
        return min(max(value, lower), upper)


@dataclass(frozen=True)
class Momentum(_AnchoredRule):
    """Rule ``beta <- beta * (1 - alpha * (s - target))``, clamped to its bounds and anchored to its first value.

    Know the sign: for Adam more b1 always stabilises, so this rule pushes the wrong way there; for heavy ball less
    momentum helps only where noise dominates. It is off by default.

    Args:
        alpha: alpha_beta, change of beta per unit of s, relative. Default 0.05, with which the
            closed-loop trials of the proposal were run.
        target: C_target, where the rule is at rest.
        min_momentum: Lower bound.
        max_momentum: Upper bound, below 1.
        anchor: Share of the way back to the first value at each decision, 0 (the proposal) to 1. Default 0.1: a lasting
            error of 1 moves beta by about alpha / anchor, a half, in log beta.
        min_trust: An estimate trusted less is not acted on.
        compensate: Keep the length of the step when momentum changes.

    Example:
        >>> rule = Momentum(alpha=0.1, target=1.5, anchor=0.0)
        >>> here = Hyperparameters(lr=0.1, momentum=0.9)
        >>> decision, _ = rule.propose(Observation(step=0, s=2.5, trust=1.0, hyperparameters=here), rule.init(here))
        >>> round(decision.hyperparameters.momentum, 3)
        0.81
    """

    name: ClassVar[str] = "momentum"
    sign: ClassVar[float] = -1.0
    largest: ClassVar[float] = 1.0 - 1e-12

    _: KW_ONLY
    min_momentum: float = 0.0
    max_momentum: float = 0.999
    compensate: bool = True


@dataclass(frozen=True)
class WeightDecay(_AnchoredRule):
    """Rule ``weight_decay <- weight_decay * (1 + alpha * (s - target))``, clamped and anchored to its first value.

    AdamW decays by ``lr * weight_decay`` a step: when lr moves, so does the decay. It is off by default.

    Args:
        alpha: alpha_wd, change of the weight decay per unit of s, relative. Default 0.05,
            as for :class:`Momentum`.
        target: C_target, where the rule is at rest.
        min_weight_decay: Lower bound.
        max_weight_decay: Upper bound.
        anchor: Share of the way back to the first value at each decision, 0 (the proposal) to 1.
        min_trust: An estimate trusted less is not acted on.

    Example:
        >>> rule = WeightDecay(alpha=0.1, target=1.5, anchor=0.0)
        >>> here = Hyperparameters(lr=0.1, weight_decay=0.01)
        >>> decision, _ = rule.propose(Observation(step=0, s=2.5, trust=1.0, hyperparameters=here), rule.init(here))
        >>> round(decision.hyperparameters.weight_decay, 4)
        0.011
    """

    name: ClassVar[str] = "weight_decay"
    sign: ClassVar[float] = 1.0
    largest: ClassVar[float] = math.inf

    _: KW_ONLY
    min_weight_decay: float = 0.0
    max_weight_decay: float = 1.0
