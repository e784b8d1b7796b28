"""The learning-rate rule of the proposal (3.2.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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


def learning_rate(
    target: float = 1.5,
    *,
    gamma_down: float = 0.8,
    gamma_up: float = 1.1,
    min_lr: float = 1e-10,
    max_lr: float = 1e3,
    min_trust: float = MIN_TRUST,
) -> LearningRate:
    """Rule ``lr <- lr * clip(target / s, gamma_down, gamma_up)``.

    With the measure ``hessian``, s is ``lr * lambda_max`` and this is the proposal's formula as written.

    Args:
        target: C_target, the stability number to hold; the edge is at 2. Default 1.5: inside the proposal's 1.0 to 1.8,
            and the value that the prototype's figures were measured with.
        gamma_down: Smallest factor of one decision, in (0, 1]. Default from the proposal.
        gamma_up: Largest factor of one decision, at least 1. Default from the proposal; larger steps upward can
            resonate with momentum.
        min_lr: Bound on the reference group's lr. Default so low that only float noise is below it.
        max_lr: Bound on the reference group's lr. Curvature that vanishes, as at the end of a separable
            classification, would otherwise raise it without end.
        min_trust: An estimate trusted less is not acted on.

    Example:
        >>> rule = learning_rate(1.5)
        >>> here = Hyperparameters(lr=0.1)
        >>> decision, _ = rule.propose(Observation(step=0, s=3.0, trust=1.0, hyperparameters=here), rule.init(here))
        >>> round(decision.hyperparameters.lr, 3), decision.reason
        (0.08, 's 3 against target 1.5: lr 0.1 -> 0.08 (clipped at 0.8)')
    """
    return LearningRate(
        target=target,
        gamma_down=gamma_down,
        gamma_up=gamma_up,
        min_lr=min_lr,
        max_lr=max_lr,
        min_trust=min_trust,
    )


@dataclass(frozen=True, kw_only=True)
class LearningRate:
    """See :func:`learning_rate`."""

    target: float
    gamma_down: float
    gamma_up: float
    min_lr: float
    max_lr: float
    min_trust: float

    def __post_init__(self) -> None:
        require_target(self.target)
        if not 0.0 < self.gamma_down <= 1.0 <= self.gamma_up < float("inf"):
            raise ValueError(
                f"gammas must satisfy 0 < gamma_down <= 1 <= gamma_up, got {self.gamma_down} and {self.gamma_up}"
            )
        require_min_trust(self.min_trust)
        require_bounds("lr", self.min_lr, self.max_lr, least=0.0, most=float("inf"))

    def init(self, hyperparameters: Hyperparameters) -> State:
        """Checks that the present lr is inside the bounds. 0, where a warmup may start, is held anyway."""
        if hyperparameters.lr != 0.0:
            require_inside("lr", hyperparameters.lr, self.min_lr, self.max_lr)
        return {"arrived": False}

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """The rule, held where the observation should not be acted on."""
        now = observation.hyperparameters
        state = {"arrived": state["arrived"] or self._is_at_target(observation)}
        held = None if self._is_flat_start(observation, state) else reason_to_hold(observation, self.min_trust)
        if held is not None:
            return Decision(hyperparameters=now, reason=f"lr {held}"), state
        assert observation.s is not None
        wanted = self.target / observation.s if observation.s > 0.0 else math.inf
        factor = min(max(wanted, self.gamma_down), self.gamma_up)
        lr = min(max(now.lr * factor, self.min_lr), self.max_lr)
        clipped = factor != wanted
        reason = f"s {observation.s:.3g} against target {self.target:g}: lr {now.lr:.3g} -> {lr:.3g}"
        reason += f" (clipped at {factor:g})" if clipped else ""
        return Decision(hyperparameters=replace(now, lr=lr), reason=reason, clipped=clipped), state

    def _is_at_target(self, observation: Observation) -> bool:
        return reason_to_hold(observation, self.min_trust) is None and (observation.s or 0.0) >= self.target

    def _is_flat_start(self, observation: Observation, state: State) -> bool:
        """On the way up from a small lr, curvature just under zero is no reason to wait: nothing limits the step yet.

        Later it is: along a flat valley the estimates scatter around zero, and growing on half of them runs away.
        """
        s = observation.s
        is_small = s is not None and -self.target < s <= 0.0 and observation.trust >= self.min_trust
        return is_small and not state["arrived"] and observation.hyperparameters.lr > 0.0
