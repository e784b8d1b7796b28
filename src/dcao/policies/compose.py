"""Policies made of policies: several rules in turn, and a rule that is given a median."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dcao.checks import require_instance, require_whole
from dcao.policies.base import MIN_TRUST, Decision, Hyperparameters, Observation, Policy, State


@dataclass(frozen=True, init=False)
class Compose(Policy):
    """Several rules in turn: all see the same s, and each sees what those before it have decided.

    Args:
        rules: The rules. They keep the length of the step unless one of them says otherwise, and exceed a scheduler's
            lr unless one of them never does.
        policies: More of them, for ``dataclasses.replace``.

    Example:
        >>> from dcao import policies
        >>> rule = Compose(policies.LearningRate(1.5), policies.Momentum(0.1, anchor=0.0))
        >>> here = Hyperparameters(lr=0.1, momentum=0.9)
        >>> decision, _ = rule.propose(Observation(step=0, s=2.5, trust=1.0, hyperparameters=here), rule.init(here))
        >>> round(decision.hyperparameters.lr, 3), round(decision.hyperparameters.momentum, 3)
        (0.08, 0.81)
    """

    policies: tuple[Policy, ...]

    def __init__(self, *rules: Policy, policies: Sequence[Policy] = ()) -> None:
        policies = (*rules, *policies)
        if not policies:
            raise ValueError("Compose needs at least one policy, got none; policies.Fixed() changes nothing")
        for policy in policies:
            require_instance("each rule of Compose", policy, Policy, fix="write Compose(first, second)")
        object.__setattr__(self, "policies", policies)  # the dataclass is frozen

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.policies))})"

    @property
    def never_above_schedule(self) -> bool:
        """True if one of them never exceeds a scheduler's lr."""
        return any(policy.never_above_schedule for policy in self.policies)

    @property
    def compensate(self) -> bool:
        """False if one of them lets the step jump with momentum."""
        return all(policy.compensate for policy in self.policies)

    def init(self, hyperparameters: Hyperparameters) -> State:
        """The states of the rules, in order."""
        return {"parts": [policy.init(hyperparameters) for policy in self.policies]}

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """Each policy in turn; probed again if one of them wants it."""
        decisions, parts = [], []
        for policy, part in zip(self.policies, state["parts"], strict=True):
            decision, part = policy.propose(observation, part)
            observation = replace(observation, hyperparameters=decision.hyperparameters)
            decisions.append(decision)
            parts.append(part)
        final = Decision(
            hyperparameters=observation.hyperparameters,
            reason="; ".join(decision.reason for decision in decisions),
            probe_again=any(decision.probe_again for decision in decisions),
        )
        return final, {"parts": parts}

    def allowed_lr(self, observation: Observation, state: State) -> float | None:
        """The smallest of what the rules allow."""
        each = (rule.allowed_lr(observation, part) for rule, part in zip(self.policies, state["parts"], strict=True))
        return min((lr for lr in each if lr is not None), default=None)

    def turns_back_at(self, step: int, lr: float, state: State) -> float | None:
        """The smallest number that one of them asks for."""
        each = (rule.turns_back_at(step, lr, part) for rule, part in zip(self.policies, state["parts"], strict=True))
        return min((errors for errors in each if errors is not None), default=None)

    def watches_agreement(self, step: int, state: State) -> bool:
        """Whether one of them wants the agreement watched."""
        parts = zip(self.policies, state["parts"], strict=True)
        return any(rule.watches_agreement(step, part) for rule, part in parts)

    def turned_back(self, lr: float, state: State) -> State:
        """Each is told."""
        return {"parts": [rule.turned_back(lr, part) for rule, part in zip(self.policies, state["parts"], strict=True)]}

    def between(self, step: int, hyperparameters: Hyperparameters, state: State) -> Hyperparameters:
        """The plans of those that plan ahead, in turn."""
        for policy, part in zip(self.policies, state["parts"], strict=True):
            hyperparameters = policy.between(step, hyperparameters, part)
        return hyperparameters


@dataclass(frozen=True)
class Smoothed(Policy):
    """A policy that is given the median of s over the last trusted probes instead of the last s.

    A single mini-batch gives estimates of s that are negative or huge now and then; a median forgets them, a mean
    would carry them along. s is proportional to lr, so the median is of s / lr.

    Args:
        policy: Rule to feed.
        window: Number of probes. Default 3: the smallest that survives an outlier.

    Example:
        >>> from dcao import policies
        >>> rule = Smoothed(policies.LearningRate(1.5))
        >>> here = Hyperparameters(lr=0.1)
        >>> state = rule.init(here)
        >>> for s in (1.0, 1.5, 400.0):
        ...     observation = Observation(step=0, s=s, trust=1.0, hyperparameters=here)
        ...     decision, state = rule.propose(observation, state)
        >>> decision.reason
        's 1.5 against target 1.5: lr 0.1 -> 0.1; median of 3, this probe 400'
    """

    policy: Policy
    window: int = 3

    def __post_init__(self) -> None:
        require_instance("policy", self.policy, Policy, fix="policies.LearningRate() is one")
        require_whole("window", self.window, "probe")

    @property
    def never_above_schedule(self) -> bool:
        """That of the inner policy."""
        return self.policy.never_above_schedule

    @property
    def compensate(self) -> bool:
        """That of the inner policy."""
        return self.policy.compensate

    def init(self, hyperparameters: Hyperparameters) -> State:
        """An empty window, and the state of the inner policy."""
        return {"curvatures": [], "inner": self.policy.init(hyperparameters)}

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """The inner policy's decision on the median."""
        s, lr = observation.s, observation.hyperparameters.lr
        if s is None or math.isnan(s) or not observation.trust >= MIN_TRUST or not lr > 0.0:
            decision, inner = self.policy.propose(observation, state["inner"])
            return decision, {**state, "inner": inner}
        curvatures = [*state["curvatures"], s / lr][-self.window :]
        median = lr * statistics.median(curvatures)
        latest = s if observation.latest_s is None else observation.latest_s  # the probe's own, within another Smoothed
        decision, inner = self.policy.propose(replace(observation, s=median, latest_s=latest), state["inner"])
        if len(curvatures) > 1:
            note = f"; median of {len(curvatures)}, this probe {s:.3g}"
            decision = replace(decision, reason=decision.reason + note)
        return decision, {"curvatures": curvatures, "inner": inner}

    def allowed_lr(self, observation: Observation, state: State) -> float | None:
        """What the inner policy allows, by this one observation."""
        return self.policy.allowed_lr(observation, state["inner"])

    def turns_back_at(self, step: int, lr: float, state: State) -> float | None:
        """What the inner policy asks for."""
        return self.policy.turns_back_at(step, lr, state["inner"])

    def watches_agreement(self, step: int, state: State) -> bool:
        """Whether the inner policy wants the agreement watched."""
        return self.policy.watches_agreement(step, state["inner"])

    def turned_back(self, lr: float, state: State) -> State:
        """The inner policy is told."""
        return {**state, "inner": self.policy.turned_back(lr, state["inner"])}

    def between(self, step: int, hyperparameters: Hyperparameters, state: State) -> Hyperparameters:
        """The inner policy's plan."""
        return self.policy.between(step, hyperparameters, state["inner"])


def rules_of(policy: Policy) -> Iterator[Policy]:
    """The rules that a policy is made of; one that is not made of others is its own.

    Example:
        >>> from dcao import policies
        >>> [type(rule).__name__ for rule in rules_of(Compose(Smoothed(policies.LearningRate()), policies.Momentum()))]
        ['LearningRate', 'Momentum']
    """
    parts = policy.policies if isinstance(policy, Compose) else (policy.policy,) if isinstance(policy, Smoothed) else ()
    for part in parts:
        yield from rules_of(part)
    if not parts:
        yield policy
