"""The policy that changes nothing: the control arm of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dcao.policies.base import Decision, Hyperparameters, Observation, State


def fixed() -> Fixed:
    """Policy that changes nothing: training is bit for bit the bare optimizer's, probes only watch.

    Example:
        >>> decision, _ = fixed().propose(
        ...     Observation(step=0, s=9.0, trust=1.0, hyperparameters=Hyperparameters(lr=0.1)), {}
        ... )
        >>> decision.hyperparameters.lr
        0.1
    """
    return Fixed()


@dataclass(frozen=True)
class Fixed:
    """See :func:`fixed`."""

    settles: ClassVar[bool] = False

    def init(self, hyperparameters: Hyperparameters) -> State:
        """No state."""
        return {}

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """The present values."""
        return Decision(hyperparameters=observation.hyperparameters, reason="fixed: changes nothing"), state
