"""What policies are shown in tests, and every policy that must keep the common rules."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from hypothesis import strategies as st

from dcao import policies
from dcao.policies import Hyperparameters, Observation, Policy

HERE = Hyperparameters(lr=0.1, momentum=0.9, weight_decay=0.01)


def seen(s: float | None, here: Hyperparameters = HERE, *, trust: float = 1.0, step: int = 0) -> Observation:
    return Observation(step=step, s=s, trust=trust, hyperparameters=here)


def run(policy: Policy, numbers: list[float | None], here: Hyperparameters = HERE) -> list[Hyperparameters]:
    """Hyperparameters after each of these stability numbers, each decision carried out."""
    state, visited = policy.init(here), []
    for step, s in enumerate(numbers):
        decision, state = policy.propose(seen(s, here, step=step), state)
        here = decision.hyperparameters
        visited.append(here)
    return visited


@dataclass(frozen=True)
class PolicyCase:
    name: str
    policy: Policy
    settles: bool = False  # asks for probes before their time
    lrs: tuple[float, float] = (1e-10, 1e3)  # its bounds on lr


POLICY_CASES = [
    PolicyCase("fixed", policies.Fixed()),
    PolicyCase("learning_rate", policies.LearningRate(1.5), settles=True),
    PolicyCase("momentum", policies.Momentum(0.05, anchor=0.0)),
    PolicyCase("momentum_anchored", policies.Momentum(0.05)),
    PolicyCase("weight_decay", policies.WeightDecay(0.05, anchor=0.0)),
    PolicyCase("weight_decay_anchored", policies.WeightDecay(0.05)),
    PolicyCase("ceiling", policies.Ceiling(), lrs=(0.0, sys.float_info.max)),  # bounds of its own, from the first probe
    PolicyCase("ceiling_with_bounds", policies.Ceiling(min_lr=1e-10, max_lr=1e3)),
    PolicyCase("ceiling_with_an_end", policies.Ceiling(total_steps=1000, min_lr=1e-10, max_lr=1e3)),
    PolicyCase("smoothed", policies.Smoothed(policies.LearningRate(1.5)), settles=True),
    PolicyCase(
        "composed",
        policies.Compose(
            policies.Smoothed(policies.LearningRate(1.2), window=4), policies.Momentum(0.1), policies.WeightDecay(0.1)
        ),
        settles=True,
    ),
]

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
OBSERVATIONS = st.builds(
    Observation,
    step=st.integers(0, 10**6),
    s=st.one_of(st.none(), st.floats(1e-3, 1e3), ANY_FLOAT),
    trust=st.floats(0.0, 1.0),
    hyperparameters=st.builds(
        Hyperparameters,
        lr=st.one_of(st.floats(1e-10, 1e3), st.just(0.0)),
        momentum=st.floats(0.0, 0.999),
        weight_decay=st.floats(0.0, 1.0),
    ),
)


def same(left: float | None, right: float | None) -> bool:
    return left == right or (left is not None and right is not None and math.isnan(left) and math.isnan(right))
