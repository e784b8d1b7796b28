"""Policies made of policies: several rules in turn, and a rule that sees a median."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

from dcao.checks import require_whole
from dcao.policies.base import MIN_TRUST, Decision, Hyperparameters, Observation, Policy, State, between, settles


def compose(*policies: Policy) -> Composed:
    """Several rules in turn: all see the same s, each sees what those before it decided.

    Example:
        >>> from dcao import policies
        >>> rule = compose(policies.learning_rate(1.5), policies.momentum(0.1, anchor=0.0))
        >>> here = Hyperparameters(lr=0.1, momentum=0.9)
        >>> decision, _ = rule.propose(Observation(step=0, s=2.5, trust=1.0, hyperparameters=here), rule.init(here))
        >>> round(decision.hyperparameters.lr, 3), round(decision.hyperparameters.momentum, 3)
        (0.08, 0.81)
    """
    if not policies:
        raise ValueError("compose needs at least one policy, got none; policies.fixed() changes nothing")
    return Composed(policies=policies)


def smoothed(policy: Policy, window: int = 3) -> Smoothed:
    """``policy`` fed with the median of s over the last ``window`` trusted probes.

    A single mini-batch gives estimates of s that are negative or huge now and then; a median forgets them where a mean
    would carry them along. s is proportional to lr, so what is kept is s / lr.

    Args:
        policy: Rule to feed.
        window: Number of probes. Default 3: the smallest that survives an outlier.

    Example:
        >>> from dcao import policies
        >>> rule = smoothed(policies.learning_rate(1.5))
        >>> here = Hyperparameters(lr=0.1)
        >>> state = rule.init(here)
        >>> for s in (1.0, 1.5, 400.0):
        ...     observation = Observation(step=0, s=s, trust=1.0, hyperparameters=here)
        ...     decision, state = rule.propose(observation, state)
        >>> decision.reason
        's 1.5 against target 1.5: lr 0.1 -> 0.1; median of 3, this probe 400'
    """
    require_whole("window", window, "probe")
    return Smoothed(policy=policy, window=window)


@dataclass(frozen=True, kw_only=True)
class Composed:
    """See :func:`compose`."""

    policies: tuple[Policy, ...]

    @property
    def settles(self) -> bool:
        """Whether one of them does."""
        return any(map(settles, self.policies))

    def init(self, hyperparameters: Hyperparameters) -> State:
        """One state a policy."""
        return {"parts": [policy.init(hyperparameters) for policy in self.policies]}

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """Each policy in turn."""
        reasons, parts, clipped = [], [], False
        for policy, part in zip(self.policies, state["parts"], strict=True):
            decision, part = policy.propose(observation, part)
            observation = replace(observation, hyperparameters=decision.hyperparameters)
            reasons.append(decision.reason)
            parts.append(part)
            clipped = clipped or decision.clipped
        final = Decision(hyperparameters=observation.hyperparameters, reason="; ".join(reasons), clipped=clipped)
        return final, {"parts": parts}

    def between(self, step: int, hyperparameters: Hyperparameters, state: State) -> Hyperparameters:
        """What those that plan have planned, in turn."""
        for policy, part in zip(self.policies, state["parts"], strict=True):
            hyperparameters = between(policy, step, hyperparameters, part)
        return hyperparameters


@dataclass(frozen=True, kw_only=True)
class Smoothed:
    """See :func:`smoothed`."""

    policy: Policy
    window: int

    @property
    def settles(self) -> bool:
        """What the inner policy says."""
        return settles(self.policy)

    def init(self, hyperparameters: Hyperparameters) -> State:
        """No probes yet."""
        return {"curvatures": [], "inner": self.policy.init(hyperparameters)}

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """The inner policy's decision on the median."""
        lr = observation.hyperparameters.lr
        if observation.s is None or math.isnan(observation.s) or not observation.trust >= MIN_TRUST or not lr > 0.0:
            decision, inner = self.policy.propose(observation, state["inner"])
            return decision, {**state, "inner": inner}
        curvatures = [*state["curvatures"], observation.s / lr][-self.window :]
        s = lr * statistics.median(curvatures)
        decision, inner = self.policy.propose(replace(observation, s=s), state["inner"])
        if len(curvatures) > 1:
            note = f"; median of {len(curvatures)}, this probe {observation.s:.3g}"
            decision = replace(decision, reason=decision.reason + note)
        return decision, {"curvatures": curvatures, "inner": inner}

    def between(self, step: int, hyperparameters: Hyperparameters, state: State) -> Hyperparameters:
        """What the inner policy has planned."""
        return between(self.policy, step, hyperparameters, state["inner"])
