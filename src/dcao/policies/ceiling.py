"""The default rule: from a small first step, whatever lr is given, up to a ceiling that the probes put there."""

from __future__ import annotations

import math
import statistics
from dataclasses import KW_ONLY, dataclass, replace

from dcao.checks import require_number, require_whole
from dcao.policies.base import (
    MIN_TRUST,
    Decision,
    Hyperparameters,
    LrShape,
    Observation,
    Policy,
    State,
    reason_to_hold,
    require_bounds,
    require_min_trust,
    require_target,
)
from dcao.policies.noise import counts, noise, room, share_of_decay, with_agreement
from dcao.policies.range_test import TURNED, WATCHED_STEPS, cost, errors_needed
from dcao.rounding import rounded

TARGET = 8.0
"""Largest s: under the plateau that s rests at on the edge of stability (measured: 2 to 5) the rule would shrink lr
without end, so what it stops is what lies clearly above."""

USUAL_MOMENTUM = 0.9
"""Momentum from which ``max_relative_step`` holds as it is. With less the limit is lower, see :class:`Ceiling`."""

REACH = 1e10
"""How far lr may go from the one that the first probe sets, as a factor up and down, unless the caller gives bounds.
Only float noise and weights that no longer learn lead further, and a bound in absolute numbers would depend on the unit
of the loss: SGD's lr is divided by a thousand where the loss is multiplied by a thousand."""

STEPS_AHEAD = 10
"""Steps without a new probe after which the first rise stops. By default probes are 5 steps apart while lr rises."""


@dataclass(frozen=True)
class Ceiling(Policy):
    """Start small, rise until a probe objects, then stay under the ceiling; decay at the end, if it is known.

    With ``l = ||d|| / ||w||``, the length of the displacement that one batch's gradient leads to over that of the
    weights that it moves, both s and l are proportional to lr, so a probe allows
    ``lr * min(target / s, max_relative_step / l)``. The ceiling is that number for the last probes together: the median
    of s, whose estimates have outliers, and the root mean square of l, which has none and whose largest values do the
    damage.

    Less momentum than 0.9 averages fewer batches, and one update is a larger part of the displacement:
    ``sqrt((1 - b) / (1 + b))`` of it for momentum b and batches that are independent. What is limited is the geometric
    mean of the two lengths: with b = 0.5 the limit on l is 0.063 instead of 0.1, without momentum 0.048.

    1. Start: lr is what makes ``l = first_relative_step``, or what the first probe allows if that is less; the lr that
       was given does not matter, to the last bit (:mod:`dcao.rounding`).
    2. Rise: times ``growth`` a step, until one probe allows less than what trains. That probe ends the rise. If the
       mean training loss turns up for good in the first quarter of the run, the guard takes the run back to where it
       was lowest, and lr stays under half of what it was there.
    3. Stay: lr falls to the ceiling by ``gamma_down`` a probe at most, and rises towards it no faster than the number
       of steps: on the edge of stability s says nothing about lr (it is at its edge whatever lr is), and along a
       valley that flattens it allows any. Where gradients are nearly all noise it does not rise again, and where they
       share nothing s may be up to four times ``target`` (:mod:`dcao.policies.noise`).
    4. Decay: over the last ``decay`` of ``total_steps``, in a straight line to 0. By default the share follows the
       noise: the less successive batches' gradients agree, the more of the run is averaging.

    Under a scheduler lr is that at the top of the scheduler's shape, and what trains is its present share of that.
    A warmup and the rise hold each other back: what trains grows no faster than ``growth``, up to the share of the
    ceiling. Where the shape falls, a probe objects only to what trains, and there is no decay of the rule's own.

    Args:
        target: Largest s, as long as gradients share something. Default 8, see ``TARGET``.
        total_steps: Training steps of the run; None: no decay.
        max_relative_step: Largest l, with momentum 0.9 or more. Default 0.1: the best constant lrs had 0.03 to 0.2
            early in training.
        first_relative_step: l of the first step. Default 0.01: a third of it takes 12 steps longer to get anywhere.
            None: start from the lr that is given.
        growth: Factor a step on the way up. Default 1.1: two decades take 48 steps; faster loses transformers.
        gamma_down: Smallest factor of one probe. Default from the proposal.
        gamma_arrival: Smallest factor of the probe that ends the rise, during which lr has grown for several steps.
        decay: Share of the run, at its end, over which lr goes to 0. Default None: 0.3 where successive batches'
            gradients agree (over 5 to 20 % of the run the median size of their cosine is 0.25 or more), up to 0.8 where
            they are nearly all noise (0.15 or less).
        watched: Part of the run, from its beginning, in which the guard watches the loss. Default 0.25; 100 steps if
            the length is not known. 0: it is not watched.
        window: Number of last probes that make the ceiling. Default 3: the smallest that survives an outlier.
        min_lr: Bound on lr. Default None: ten decades (:data:`REACH`) under the lr that the first probe sets.
        max_lr: Bound on lr. Default None: ten decades above the lr that the first probe sets.
        min_trust: Where s is trusted less, only the relative step is acted on, which needs no trust.
        never_above_schedule: Under a scheduler, never exceed its lr.

    Example:
        >>> rule = Ceiling()
        >>> given = Hyperparameters(lr=10.0)
        >>> seen = Observation(step=0, s=500.0, trust=1.0, hyperparameters=given, relative_step=5.0)
        >>> decision, state = rule.propose(seen, rule.init(given))
        >>> decision.hyperparameters.lr, round(rule.between(1, decision.hyperparameters, state).lr, 6)
        (0.02, 0.022)
    """

    target: float = TARGET
    _: KW_ONLY
    total_steps: int | None = None
    max_relative_step: float = 0.1
    first_relative_step: float | None = 0.01
    growth: float = 1.1
    gamma_down: float = 0.8
    gamma_arrival: float = 0.5
    decay: float | None = None
    watched: float = 0.25
    window: int = 3
    min_lr: float | None = None
    max_lr: float | None = None
    min_trust: float = MIN_TRUST
    never_above_schedule: bool = False

    def __post_init__(self) -> None:
        require_target(self.target)
        require_min_trust(self.min_trust)
        lowest, highest = 0.0 if self.min_lr is None else self.min_lr, math.inf if self.max_lr is None else self.max_lr
        require_bounds("lr", lowest, highest, least=0.0, most=math.inf)
        if self.total_steps is not None:
            require_whole("total_steps", self.total_steps, "step")
        require_whole("window", self.window, "probe")
        may_be_none = ("first_relative_step", "decay")
        for name in ("max_relative_step", "growth", "gamma_down", "gamma_arrival", "watched", *may_be_none):
            if name not in may_be_none or getattr(self, name) is not None:
                require_number(name, getattr(self, name))
        _require(self.max_relative_step > 0.0, "max_relative_step", self.max_relative_step, "positive")
        first = self.first_relative_step
        _require(first is None or first > 0.0, "first_relative_step", first, "positive")
        _require(1.0 <= self.growth < math.inf, "growth", self.growth, "at least 1 and finite")
        for name in ("gamma_down", "gamma_arrival"):
            _require(0.0 < getattr(self, name) <= 1.0, name, getattr(self, name), "in (0, 1]")
        decay = self.decay
        _require(decay is None or 0.0 <= decay <= 1.0, "decay", decay, "a share between 0 and 1, or None")
        _require(0.0 <= self.watched <= 1.0, "watched", self.watched, "a share between 0 and 1")

    def init(self, hyperparameters: Hyperparameters) -> State:
        """The state before the first probe: nothing is measured, and lr has not arrived at a ceiling."""
        numbers: State = dict.fromkeys(("step", "held_at", "first_lr", "ceiling", "turned"))
        lists: State = {key: [] for key in ("curvatures", "lengths", "costs", "agreements", "first_agreements")}
        return {"arrived": False, **numbers, **lists}

    def propose(self, observation: Observation, state: State) -> tuple[Decision, State]:
        """The ceiling from this probe and the last ones, and lr under it."""
        now, step = observation.hyperparameters, observation.step
        held = reason_to_hold(observation, self.min_trust, needs_curvature=False)  # flat ground sets no limit
        if held is not None and not (now.lr > 0.0 and observation.relative_step):
            planned = self.between(step, now, state)
            return Decision(hyperparameters=planned, reason=f"lr {held}"), {**state, "held_at": step}
        first = state["step"] is None
        level = self._first_level(observation) if first else self._level(step, now, state)
        is_second = len(state["lengths"]) == 1 and state["turned"] is None
        state = self._seen(observation, state, trusts_s=held is None)
        room_for_s = room(state["agreements"] or state["first_agreements"])
        limits = self.target * room_for_s, self.largest_relative_step(now.momentum or 0.0)
        arrived = state["arrived"] and not (is_second and room_for_s > 1.0)  # the first knew of no agreement
        latest = state["curvatures"][-1:] if held is None else []
        allowed = _allowed(latest, state["lengths"][-1:], *limits)
        highest = _allowed(state["curvatures"], state["lengths"], *limits)
        exploring, lasting = _shares(now.shape)
        arrives = not arrived and level * exploring > min(allowed, highest)
        if first and 0.0 < allowed < level:  # no step has been taken: nothing speaks for a larger one
            level = allowed
        elif arrives:
            level = max(min(level, allowed / lasting, highest / lasting), self.gamma_arrival * level)
        elif level * lasting > highest:
            level = max(highest / lasting, self.gamma_down * level)
        state |= {"ceiling": highest if highest < math.inf else None, "arrived": arrived or arrives}
        left = self._decayed(step, now.shape, state)
        lr = self._inside(level * left, state)
        if first:
            state |= {"first_lr": lr}
        under = "under the ceiling" if arrived else "rise"
        phase = "start" if first else "arrived" if arrives else "decay" if left < 1.0 else under
        limit = f"this probe allows {allowed:.3g}, the last ones {highest:.3g}"
        limit += "" if room_for_s == 1.0 else f"; gradients share next to nothing, s up to {limits[0]:.3g}"
        limit += "" if held is None else f"; by its relative step alone, {held.removeprefix('held: ')}"
        return Decision(
            hyperparameters=replace(now, lr=lr), reason=f"{phase}: lr {now.lr:.3g} -> {lr:.3g}; {limit}"
        ), state

    def allowed_lr(self, observation: Observation, state: State) -> float | None:
        """The ceiling."""
        return math.inf if state["ceiling"] is None else float(state["ceiling"])

    def largest_relative_step(self, momentum: float) -> float:
        """The limit on the relative step with this momentum.

        Example:
            >>> [round(Ceiling().largest_relative_step(momentum), 3) for momentum in (0.99, 0.9, 0.5, 0.0)]
            [0.1, 0.1, 0.063, 0.048]
        """
        share = _num_averaged(min(momentum, USUAL_MOMENTUM)) / _num_averaged(USUAL_MOMENTUM)
        return self.max_relative_step * math.sqrt(math.sqrt(share))

    def turns_back_at(self, step: int, lr: float, state: State) -> float | None:
        """In the first part of the run, if lr rises from a first step of this rule; once it has turned, no more."""
        return errors_needed(state["costs"], lr) if self._watches_loss(step, state) else None

    def watches_agreement(self, step: int, state: State) -> bool:
        """Where it says how noisy the run is, and where the loss is watched."""
        return counts(step, self.total_steps) or self._watches_loss(step, state)

    def turned_back(self, lr: float, state: State) -> State:
        """The rise is over."""
        return {**state, "arrived": True, "turned": TURNED * lr}

    def between(self, step: int, hyperparameters: Hyperparameters, state: State) -> Hyperparameters:
        """What trains at a step without a probe."""
        is_done = step in (state["step"], state["held_at"])  # by a probe of this very step
        if is_done or state["step"] is None or not hyperparameters.lr > 0.0:
            return hyperparameters
        level = self._level(step, hyperparameters, state) * self._decayed(step, hyperparameters.shape, state)
        return replace(hyperparameters, lr=self._inside(level, state))

    def _watches_loss(self, step: int, state: State) -> bool:
        if state["step"] is None or state["turned"] is not None or not (self.first_relative_step and self.watched):
            return False
        return step < (WATCHED_STEPS if self.total_steps is None else self.watched * self.total_steps)

    def _inside(self, lr: float, state: State) -> float:
        """The lr within its bounds; of those that the caller has not given there are none before the first probe."""
        first = state["first_lr"]
        lowest, highest = (0.0, math.inf) if first is None else (first / REACH, first * REACH)
        lowest = lowest if self.min_lr is None else self.min_lr
        return min(max(lr, lowest), highest if self.max_lr is None else self.max_lr)

    def _first_level(self, observation: Observation) -> float:
        lr, length, shape = observation.hyperparameters.lr, observation.relative_step, observation.hyperparameters.shape
        if not (length and self.first_relative_step):
            return lr
        return self.first_relative_step / rounded(length / lr) / (shape.share or 1.0)

    def _level(self, step: int, now: Hyperparameters, state: State) -> float:
        """Lr at this step without the decay at the end: that of the step before, raised once."""
        if state["step"] == step:  # probed again
            return now.lr / self._decayed(step, now.shape, state)
        level = now.lr / self._decayed(step - 1, now.shape, state)
        rise = self.growth if step - state["step"] <= STEPS_AHEAD else 1.0
        rise /= max(now.shape.rise, 1.0)  # by which a warmup, or a restart, raises what trains already
        if state["arrived"]:
            rise = min(self.growth, 1.0 + (1.0 - noise(state["agreements"])) / max(step, 1))
        highest = min(each for each in (state["ceiling"], self.max_lr, math.inf) if each is not None)
        level = min(level * rise, max(level, highest))
        return level if state["turned"] is None else min(level, state["turned"])

    def _seen(self, observation: Observation, state: State, *, trusts_s: bool) -> State:
        """The state with this probe among the last ones, per unit of lr."""
        lr, last = observation.hyperparameters.lr, slice(-self.window, None)
        kept = rounded if state["step"] is None and self.first_relative_step else float
        lengths, curvatures, costs = state["lengths"], state["curvatures"], state["costs"]
        if observation.relative_step is not None:
            lengths = [*lengths, kept(observation.relative_step / lr)][last]
        if trusts_s:
            assert observation.s is not None
            curvatures = [*curvatures, kept(observation.s / lr)][last]
            if observation.agreement is not None:
                costs = [*costs, cost(curvatures[-1], observation.agreement)][last]
        seen: State = {"step": observation.step, "curvatures": curvatures, "lengths": lengths, "costs": costs}
        return {**state, **seen, **with_agreement(state, observation, self.total_steps)}

    def _decayed(self, step: int, shape: LrShape, state: State) -> float:
        """1, and in the last part of the run the share of that part which is left, unless a scheduler decays."""
        if self.total_steps is None or shape.decays:
            return 1.0
        share = share_of_decay(state["agreements"]) if self.decay is None else self.decay
        left = max(self.total_steps - step, 1)
        return 1.0 if share == 0.0 else min(1.0, left / max(share * self.total_steps, 1.0))


def _shares(shape: LrShape) -> tuple[float, float]:
    """The parts of lr that a probe has to object to for the rise to end, and for lr to be cut.

    A warmup leads to its top, so that it is the top that must not stay too high, and only what trains that tells of an
    end of the rise. Where the shape has fallen it is the other way round: at the edge of stability curvature grows as
    what trains falls, and would say of the top that it is too high.
    """
    return (shape.share, 1.0) if shape.is_warmup else (1.0, shape.share or 1.0)


def _allowed(curvatures: list[float], lengths: list[float], largest_s: float, longest: float) -> float:
    """Largest lr that keeps s and the relative step in bounds; s at or below 0 sets none."""
    curvature = statistics.median(curvatures) if curvatures else 0.0
    by_curvature = largest_s / curvature if curvature > 0.0 else math.inf
    length = math.sqrt(sum(each * each for each in lengths) / len(lengths)) if lengths else 0.0
    return min(by_curvature, longest / length if length > 0.0 else math.inf)


def _num_averaged(momentum: float) -> float:
    """Independent batches that momentum averages over: the displacement's variance over that of one update."""
    return (1.0 + momentum) / (1.0 - momentum)


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {rule}, got {value!r}")
