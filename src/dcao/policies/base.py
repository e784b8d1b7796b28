"""What a policy sees and what it answers: plain frozen data, so that a log replays to the same decisions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from dcao.checks import require_number

State = dict[str, Any]
"""A policy's memory: JSON-plain (numbers, strings, lists, dicts), so that it goes into checkpoints as it is."""

MIN_TRUST = 0.5
"""An estimate trusted less than this is not acted on, by default: its residual is half its value or more."""


@dataclass(frozen=True, kw_only=True)
class LrShape:
    """The shape that a learning-rate scheduler, or whoever else writes lr, gives to it.

    The scheduler gives the shape and the policy the scale: what trains is the policy's lr times ``share``.

    Attributes:
        share: The scheduled lr of the coming step as a part of the scheduler's top, from 0 to 1.
        rise: What trains at the present lr over the largest lr that has trained so far: above 1 where the shape rises.
        is_warmup: Whether the shape is below its top and has never fallen.
        decays: Whether it has begun to fall by a plan, which a rule's own decay has to leave alone.
    """

    share: float = 1.0
    rise: float = 1.0
    is_warmup: bool = False
    decays: bool = False


NO_SHAPE = LrShape()
"""What a policy is told where nobody else writes lr."""


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """The hyperparameters in use. With several param groups: those of the reference group, which has the largest lr.

    Attributes:
        lr: Learning rate of the coming step; under a scheduler that at the top of its shape.
        momentum: SGD's and RMSprop's ``momentum``, the Adam family's ``betas[0]``; None if the optimizer has none.
        weight_decay: Largest of any group (groups exempt from decay stay exempt); None if the optimizer has none.
        shape: What a scheduler makes of lr. It is not a policy's to change.
    """

    lr: float
    momentum: float | None = None
    weight_decay: float | None = None
    shape: LrShape = NO_SHAPE


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a policy sees at a probe. Under a scheduler everything is as it would be at the top of its shape.

    Attributes:
        step: Optimizer step that comes next; 0 is the first.
        s: Stability number at these hyperparameters; the edge is at 2. None: it could not be measured.
        trust: How far to trust ``s``: 0 (not at all) to 1.
        hyperparameters: Present values.
        relative_step: ``l``, the length of the displacement that one batch's gradient leads to, divided by the length
            of the weights that it moves; None if it was not measured.
        agreement: Size of the cosine between the gradients of successive batches, 0 to 1: near 0 where they are nearly
            all noise. The mean over the steps since the last probe where :meth:`Policy.watches_agreement` wants them,
            else that of this probe alone; None if it was not measured.
        latest_s: What this one probe measured, where ``s`` is a median over several; None: ``s`` itself.
    """

    step: int
    s: float | None
    trust: float
    hyperparameters: Hyperparameters
    relative_step: float | None = None
    agreement: float | None = None
    latest_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a policy answers.

    Attributes:
        hyperparameters: Values for the coming steps. The controller applies the change of lr and of weight decay as
            a ratio to every group, so ratios between groups are kept.
        reason: Why, in words; it goes to the log unchanged.
        probe_again: Whether the policy wants the next step probed too, whatever the schedule says. Before the first
            update, a decision that cuts lr and wants another probe gets it at once. A schedule that keeps a budget,
            such as :class:`dcao.schedules.Overhead`, grants none.
    """

    hyperparameters: Hyperparameters
    reason: str
    probe_again: bool = False


class Policy(ABC):
    """A rule that decides on hyperparameters. Pure: the same observation and state give the same decision.

    A subclass has to write :meth:`propose`. Everything else has a default; ``never_above_schedule`` and ``compensate``
    are changed by an attribute of the class, such as ``compensate = False``.

    Example:
        >>> class Halve(Policy):
        ...     def propose(self, observation, state):
        ...         now = observation.hyperparameters
        ...         return Decision(hyperparameters=replace(now, lr=now.lr / 2), reason="halved"), state
        >>> from dataclasses import replace
        >>> seen = Observation(step=0, s=3.0, trust=1.0, hyperparameters=Hyperparameters(lr=0.1))
        >>> Halve().propose(seen, {})[0].hyperparameters.lr
        0.05
    """

    @property
    def adapts(self) -> bool:
        """Whether it ever changes anything. Default: True; if not, DCAO probes and guards only when asked to."""
        return True

    @property
    def never_above_schedule(self) -> bool:
        """Whether what trains stays at or below the lr that a scheduler has set. Default: False.

        By default the scheduler gives the shape of lr and the policy its scale.
        """
        return False

    @property
    def compensate(self) -> bool:
        """Whether a change of momentum keeps the length of the step. Default: True.

        That is lr / (1 - momentum) for optimizers whose buffer sums, the bias correction for those whose buffer
        averages.
        """
        return True

    def init(self, hyperparameters: Hyperparameters) -> State:
        """State before the first decision; ValueError if the present values are outside the policy's bounds."""
        return {}

    @abstractmethod
    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """Decision for the coming steps, and the next state."""

    def allowed_lr(self, observation: Observation, state: State) -> float | None:
        """Largest lr that the last observation allows by this rule, with the state after it; ``inf`` without a limit.

        A scheduler or a bound that holds lr far below this is told to the caller. Default: None, for a rule that does
        not say; then the lr that :meth:`propose` wants counts.
        """
        return None

    def turns_back_at(self, step: int, lr: float, state: State) -> float | None:
        """By how many standard errors the mean training loss has to be up for the guard to go back to its lowest point.

        ``lr`` is what has trained so far. None: the loss is not watched, which is the default. A rule that raises lr
        until something objects wants it watched while it does.
        """
        return None

    def watches_agreement(self, step: int, state: State) -> bool:
        """Whether the gradients of this step are compared with those of the one before, for a better agreement.

        Default: False. It costs no evaluation, but a copy of the gradient.
        """
        return False

    def turned_back(self, lr: float, state: State) -> State:
        """The state once the loss has turned up, and the run has gone back to where it was lowest, with this lr.

        Default: the same state.
        """
        return state

    def between(self, step: int, hyperparameters: Hyperparameters, state: State) -> Hyperparameters:
        """Hyperparameters for a step without a probe, from the state that the last decision has left.

        Default: the present ones.
        """
        return hyperparameters


def reason_to_hold(
    observation: Observation, min_trust: float = MIN_TRUST, *, needs_curvature: bool = True
) -> str | None:
    """Why an observation should not be acted on, or None.

    Curvature at or below zero sets no limit to chase. A rule that has other limits can act without one
    (``needs_curvature=False``).
    """
    if not observation.hyperparameters.lr > 0.0:
        return "held: lr is 0"
    if observation.s is None:
        return "held: s was not measured"
    if not observation.trust >= min_trust:
        return f"held: s {observation.s:.3g} is trusted only {observation.trust:.2f}"
    if math.isnan(observation.s) or (needs_curvature and observation.s <= 0.0):
        return f"held: no positive curvature (s {observation.s:.3g})"
    return None


def require_bounds(name: str, lower: float, upper: float, *, least: float, most: float) -> None:
    """Check ``least <= lower <= upper <= most``."""
    require_number(f"min_{name}", lower)
    require_number(f"max_{name}", upper)
    if not least <= lower <= upper <= most:
        raise ValueError(f"bounds of {name} must satisfy {least} <= min <= max <= {most}, got {lower} and {upper}")


def require_target(target: float) -> None:
    """Check that a target is a positive number."""
    require_number("target", target, fix="; the edge of stability is at 2")
    if not 0.0 < target < float("inf"):
        raise ValueError(f"target must be positive and finite, got {target}; the edge of stability is at 2")


def require_min_trust(min_trust: float) -> None:
    """Check ``0 <= min_trust <= 1``."""
    require_number("min_trust", min_trust)
    if not 0.0 <= min_trust <= 1.0:
        raise ValueError(f"min_trust must be in [0, 1], got {min_trust}; 0 acts on every estimate")


def require_inside(name: str, value: float, lower: float, upper: float) -> None:
    """Check that the present value of a hyperparameter is inside a rule's bounds."""
    if not lower <= value <= upper:
        raise ValueError(
            f"bounds of {name} [{lower:g}, {upper:g}] exclude its present value {value:g}; "
            f"widen min_{name} and max_{name}, or start inside them"
        )
