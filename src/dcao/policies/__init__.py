"""Policies: pure decisions from an observed stability number to hyperparameters."""

from dcao.policies.base import Decision, Hyperparameters, LrShape, Observation, Policy, State
from dcao.policies.ceiling import Ceiling
from dcao.policies.compose import Compose, Smoothed
from dcao.policies.fixed import Fixed
from dcao.policies.proposal import LearningRate, Momentum, WeightDecay

__all__ = [
    "Ceiling",
    "Compose",
    "Decision",
    "Fixed",
    "Hyperparameters",
    "LearningRate",
    "LrShape",
    "Momentum",
    "Observation",
    "Policy",
    "Smoothed",
    "State",
    "WeightDecay",
]
