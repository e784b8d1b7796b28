"""Policies: pure decisions from an observed stability number to hyperparameters."""

from dcao.policies.anchored import momentum, weight_decay
from dcao.policies.base import Decision, Hyperparameters, Observation, Policy, State
from dcao.policies.ceiling import ceiling
from dcao.policies.compose import compose, smoothed
from dcao.policies.fixed import fixed
from dcao.policies.learning_rate import learning_rate

__all__ = [
    "Decision",
    "Hyperparameters",
    "Observation",
    "Policy",
    "State",
    "ceiling",
    "compose",
    "fixed",
    "learning_rate",
    "momentum",
    "smoothed",
    "weight_decay",
]
