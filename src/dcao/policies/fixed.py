"""The policy that changes nothing: the control arm of every comparison."""

from __future__ import annotations

from dataclasses import dataclass

from dcao.policies.base import Decision, Observation, Policy, State


@dataclass(frozen=True)
class Fixed(Policy):
    """Policy that changes nothing: training is bit for bit the bare optimizer's, and probes only watch.

    Example:
        >>> from dcao import Hyperparameters
        >>> decision, _ = Fixed().propose(
        ...     Observation(step=0, s=9.0, trust=1.0, hyperparameters=Hyperparameters(lr=0.1)), {}
        ... )
        >>> decision.hyperparameters.lr
        0.1
    """

    @property
    def adapts(self) -> bool:
        """False."""
        return False

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """The present values."""
        return Decision(hyperparameters=observation.hyperparameters, reason="fixed: changes nothing"), state
