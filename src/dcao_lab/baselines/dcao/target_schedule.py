"""A target of DCAO's learning-rate rule that falls over the course of a run, instead of a learning-rate schedule."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import dcao
from dcao_lab.errors import look_up

LAST_SHARE = 0.05  # of the target, at the end: a target of 0 would cut the lr at every probe

Fall = Callable[[float], float]
FALLS: dict[str, Fall] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1.0 - progress,
}
"""How far the target still is from its last value, 1 to 0, once a share of the run is done."""


@dataclass(frozen=True)
class ScheduledTarget(dcao.policies.Policy):
    """The policy ``rule(target)`` whose target falls from ``target`` to a twentieth of it over ``num_steps``.

    Args:
        rule: The policy that holds a target; one that keeps its memory apart from the target.
        target: At the first step.
        schedule: ``"cosine"``, ``"linear"`` or ``"constant"``.
        num_steps: Steps of the run; from then on the target stays.

    Example:
        >>> policy = ScheduledTarget(dcao.policies.LearningRate, 1.5, "linear", 100)
        >>> [round(policy.target_at(step), 4) for step in (0, 50, 100, 200)]
        [1.5, 0.7875, 0.075, 0.075]
    """

    rule: Callable[[float], dcao.Policy]
    target: float
    schedule: str
    num_steps: int

    def __post_init__(self) -> None:
        look_up(FALLS, self.schedule, "target_schedule")

    def init(self, hyperparameters: dcao.Hyperparameters) -> "dcao.policies.State":
        """The rule's."""
        return self.rule(self.target).init(hyperparameters)

    def propose(
        self, observation: dcao.Observation, state: "dcao.policies.State"
    ) -> "tuple[dcao.Decision, dcao.policies.State]":
        """The rule's, at the target of this step."""
        return self.rule(self.target_at(observation.step)).propose(observation, state)

    def target_at(self, step: int) -> float:
        """The target before ``step``."""
        left = FALLS[self.schedule](min(1.0, step / self.num_steps))
        return self.target * (LAST_SHARE + (1.0 - LAST_SHARE) * left)
