"""The only writer of hyperparameters: asks the policy, and puts its answer into the param groups."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from torch.optim import Optimizer

from dcao.checkpoints import keys_of, require_kinds, require_lengths
from dcao.groups import GroupLrs, Roster, as_stored, carry, set_lrs
from dcao.lr_schedulers import Drivers, drivers_of, has_scheduler, schedulers_of
from dcao.lr_shape import ShapeFollower
from dcao.momentum import momentum_of, write_momentum
from dcao.policies.base import Decision, Hyperparameters, Observation, Policy, State
from dcao.telling.notices import Notices, warn
from dcao.updates.registry import OptimizerModel


class Controller:
    """Owns the policy's state and the lr that trains.

    As long as nobody else writes an lr, the param groups hold what trains. Once a scheduler (or a person) is seen to
    write one, they hold its nominal lr, which is left to the scheduler: it gives the shape, and DCAO the scale. The
    policy then sees and decides everything as at the top of the shape, and groups hold what trains only while the base
    optimizer steps. A policy that changes nothing leaves the lr that is there alone.

    Args:
        policy: The rule that decides.
        optimizer: The base optimizer, whose groups are written.
        record: Description of its class; None for an unknown class, whose momentum is not written.
        notices: Tells the caller what cannot be carried out.
    """

    def __init__(
        self, policy: Policy, optimizer: Optimizer, record: OptimizerModel | None, notices: Notices | None = None
    ) -> None:
        self.policy, self.optimizer, self.lrs, self.record = policy, optimizer, GroupLrs(optimizer), record
        self.notices = Notices() if notices is None else notices
        self.shape: ShapeFollower | None = None  # None: nobody else writes lr
        self.moved = False  # whether lr was ever changed here
        self.looked = False  # whether the first write has looked for a scheduler that leaves no mark
        self.policy_state: State | None = None
        self._undecided: tuple[int, Hyperparameters, State | None, float] | None = None  # as before the last decision
        self.written: list[float] = []  # lr in each group as this controller last left it
        self.momenta: list[float | None] = []  # momentum of each group, likewise
        self.compensation: list[float] = []  # factor on lr that holds lr / (1 - momentum) while momentum moves
        self.roster = Roster(optimizer)
        self.note_groups()
        # Refuses bounds that exclude the present values, at once.
        self._state_keys = keys_of(policy.init(self.hyperparameters()))

    # --- reading ----------------------------------------------------------------------------------------------

    def note_groups(self) -> None:
        """Remember the present lr and momentum of each group, so that later changes by others are noticed."""
        self.written = self.lrs.read()
        self.momenta = self._momenta()
        self.compensation += [1.0] * (len(self.written) - len(self.compensation))

    def effective_lrs(self) -> list[float]:
        """The lr that the coming step uses, for each group."""
        lrs = self.lrs.read()
        return lrs if self.shape is None else self._compensated(self.shape.training(lrs))

    def hyperparameters(self) -> Hyperparameters:
        """Values of the reference group, the one with the largest lr, as a policy sees them: at the shape's top."""
        if self.shape is None:
            return self._of_reference(self.lrs.read())
        return replace(self._of_reference(self._compensated(self.shape.levels)), shape=self.shape.seen())

    def training_hyperparameters(self) -> Hyperparameters:
        """The same as they train in the coming step."""
        return self._of_reference(self.effective_lrs())

    @property
    def trains_nothing(self) -> bool:
        """Whether a scheduler has set the lr of the coming step to 0."""
        return self.shape is not None and self.shape.share == 0.0

    def sync(self) -> None:
        """Notice new groups, groups that are gone, and a scheduler, or anybody else, that has written an lr."""
        origins, lrs = self.roster.update(), self.lrs.read()
        if origins is not None:
            self.written = carry(self.written, origins, lrs)
            self.momenta = carry(self.momenta, origins, self._momenta())
            self.compensation = carry(self.compensation, origins, [1.0] * len(lrs))
        if not self.policy.adapts:
            return
        if self.shape is not None:
            if origins is not None:
                self.shape.rearrange(origins, lrs)
            self.shape.follow(lrs)
        elif lrs != self.written or has_scheduler(self.optimizer):
            self._take_shape(drivers_of(self.optimizer))
        elif origins is not None:
            uncompensated = [lr / factor for lr, factor in zip(self.written, self.compensation, strict=True)]
            self.roster.scale_added(origins, uncompensated)
            self.written = self.lrs.read()

    # --- deciding and writing ---------------------------------------------------------------------------------

    def decide(self, observation: Observation) -> Decision:
        """Ask the policy, and keep its next state; TypeError if the answer is not a decision and a state."""
        if self._undecided is None or self._undecided[0] != observation.step:
            largest = 0.0 if self.shape is None else self.shape.largest
            self._undecided = observation.step, observation.hyperparameters, copy.deepcopy(self.policy_state), largest
        if self.policy_state is None:
            self.policy_state = self.policy.init(observation.hyperparameters)
        answer = self.policy.propose(observation, self.policy_state)
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Decision)):
            raise TypeError(
                f"{type(self.policy).__name__}.propose must return a dcao.Decision and the next state, got {answer!r}; "
                "for a policy without a state: return decision, state"
            )
        decision, self.policy_state = answer
        return decision

    def take_back(self) -> None:
        """Undo what has been decided at the last step that was decided on."""
        if self._undecided is not None:
            _, before, state, largest = self._undecided
            self.apply(Decision(hyperparameters=before, reason=""))
            self.policy_state = state
            if self.shape is not None:
                self.shape.largest = largest

    def move_on(self, step: int) -> None:
        """Write what the policy has planned for a step without a probe, if it plans ahead."""
        if self.policy_state is None or self.trains_nothing:
            return
        now = self.hyperparameters()
        wanted = self.policy.between(step, now, self.policy_state)
        if wanted.lr != now.lr:
            self.scale_lr(wanted.lr, now.lr)
        if self.shape is not None:
            self.shape.note_set()

    def apply(self, decision: Decision) -> Decision:
        """Write a decision into the groups; returns it with what could not be carried out added to its reason."""
        now, wanted = self.hyperparameters(), decision.hyperparameters
        notes = [decision.reason]
        if wanted != now:
            self._look_for_scheduler()
        if wanted.momentum != now.momentum and wanted.momentum is not None:
            notes += self._write_momentum(wanted.momentum, now.momentum)
        if wanted.weight_decay != now.weight_decay and wanted.weight_decay is not None:
            notes += self._scale_weight_decay(wanted.weight_decay, now.weight_decay)
        if wanted.lr != now.lr and now.lr > 0.0:
            notes += self.scale_lr(wanted.lr, now.lr)
        if self.shape is not None:
            self.shape.note_set()
            share, trains = self.shape.seen().share, self.training_hyperparameters().lr
            notes += [f"the scheduler's share of it is {share:.3g}: {trains:.3g} trains"] if share < 1.0 else []
        return replace(decision, reason="; ".join(notes))

    def scale_lr(self, wanted: float, now: float = 1.0) -> list[str]:
        """Multiply the lr that trains by ``wanted / now`` in every group; returns what kept it lower, in words.

        A group whose lr equals ``now`` is set to exactly ``wanted``, without rounding, so that a policy can make the
        run independent of the initial lr. Nothing is written for a ``wanted`` that is negative, infinite or nan.
        """
        if not 0.0 <= wanted < math.inf:
            self._tell_ignored(
                "lr", f"it answered {wanted:g}, which is no learning rate", "return a finite lr from 0 on"
            )
            return [f"lr held: {wanted:g} is no learning rate"]
        self._look_for_scheduler()
        self.moved = self.moved or wanted != now
        if self.shape is None:
            self._write_lrs([wanted if lr == now else lr * (wanted / now) for lr in self.written])
            return []
        self.shape.set_levels([wanted if lr == now else lr * (wanted / now) for lr in self.shape.levels])
        is_held = self.policy.never_above_schedule and self.shape.keep_below()
        return ["held at the scheduled lr: never_above_schedule"] if is_held else []

    def training_lrs(self) -> AbstractContextManager[None]:
        """While the base optimizer steps, its groups hold the lr that trains."""
        return self.lrs.replaced(None if self.shape is None else self.effective_lrs())

    def probed_lrs(self) -> AbstractContextManager[None]:
        """While a probe measures, groups hold what the policy decides on: under a scheduler the lr at its top."""
        lrs = None if self.shape is None else self._compensated(self.shape.at_top(self.lrs.read()))
        return self.lrs.replaced(lrs)

    def state_dict(self) -> dict[str, Any]:
        """JSON-plain state."""
        return {
            "shape": None if self.shape is None else self.shape.state_dict(),
            "moved": self.moved,
            "looked": self.looked,
            "policy": _describe(self.policy),
            "policy_state": self.policy_state,
            "compensation": list(self.compensation),
            "written": list(self.written),
            "momenta": list(self.momenta),
        }

    def check(self, state: dict[str, Any], *, num_groups: int) -> None:
        """Raise a ValueError if a saved state of so many groups cannot be loaded; warn if it is another policy's."""
        require_lengths({name: state[name] for name in ("compensation", "written", "momenta")}, num_groups)
        if state["shape"] is not None:
            ShapeFollower.check(state["shape"], 'state_dict["dcao"]["controller"]["shape"]', num_groups=num_groups)
        if state["policy"] != _describe(self.policy):
            warn(
                f"the checkpoint is of another policy, {state['policy']}; {_describe(self.policy)} starts without a "
                "memory"
            )
        elif state["policy_state"] is not None:
            where = 'state_dict["dcao"]["controller"]["policy_state"]'
            require_kinds(state["policy_state"], self._state_keys, where, is_open=True)

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Go on from a saved state; without one, from the groups as they are."""
        if state is None:
            self.shape, self.moved, self.looked, self.policy_state, self.compensation = None, False, False, None, []
            self.note_groups()
            return
        self.shape = None if state["shape"] is None else ShapeFollower(**state["shape"])
        self.moved, self.looked = state["moved"], state["looked"]
        # Another policy's state would mean nothing to this one.
        self.policy_state = state["policy_state"] if state["policy"] == _describe(self.policy) else None
        # Not read from the groups: what somebody else had written before the checkpoint is still theirs after it.
        self.compensation, self.written = list(state["compensation"]), list(state["written"])
        self.momenta = list(state["momenta"])

    # --- helpers ----------------------------------------------------------------------------------------------

    def _take_shape(self, drivers: Drivers) -> None:
        """Leave the groups' lr to whoever else writes it, from here on, and go on from what has trained so far."""
        self.shape = ShapeFollower.of(drivers, self.written, is_dcaos=self.moved)
        self.shape.follow(self.lrs.read())
        if self.policy.never_above_schedule:
            self.shape.keep_below()
        self.compensation = [1.0] * len(self.written)

    def _look_for_scheduler(self) -> None:
        """Before the first write: ``ReduceLROnPlateau`` leaves no mark on the groups until it writes an lr itself."""
        if self.shape is None and not self.looked and self.policy.adapts and schedulers_of(self.optimizer):
            self._take_shape(drivers_of(self.optimizer))
        self.looked = True

    def _compensated(self, lrs: Sequence[float]) -> list[float]:
        return [lr * factor for lr, factor in zip(lrs, self.compensation, strict=True)]

    def _of_reference(self, lrs: Sequence[float]) -> Hyperparameters:
        reference = max(range(len(lrs)), key=lrs.__getitem__)
        decays = [float(group["weight_decay"]) for group in self.optimizer.param_groups if "weight_decay" in group]
        return Hyperparameters(
            lr=lrs[reference],
            momentum=momentum_of(self.record, self.optimizer.param_groups[reference]),
            weight_decay=max(decays) if decays else None,
        )

    def _write_lrs(self, lrs: list[float]) -> None:
        set_lrs(self.optimizer, lrs)
        self.written = [as_stored(group["lr"], lr) for group, lr in zip(self.optimizer.param_groups, lrs, strict=True)]

    def _momenta(self) -> list[float | None]:
        return [momentum_of(self.record, group) for group in self.optimizer.param_groups]

    def _write_momentum(self, wanted: float, now: float | None) -> list[str]:
        """Change momentum in the groups that share the reference group's, without a jump in the step."""
        if self._momenta() != self.momenta:
            fix = "drop the rule, or whoever writes momentum (OneCycleLR does, unless cycle_momentum=False)"
            self._tell_ignored("momentum", "somebody else sets it", fix)
            return ["momentum held: somebody else sets it"]
        if self.record is None or now is None:
            self._tell_ignored("momentum", "this optimizer has none that DCAO knows", "drop the rule")
            return ["momentum held: the optimizer has none"]
        compensate = self.policy.compensate
        factors = write_momentum(self.optimizer, self.record, self.momenta, wanted, now, compensate=compensate)
        self.momenta = self._momenta()
        self.compensation = [c * f for c, f in zip(self.compensation, factors, strict=True)]
        if self.shape is None:
            self._write_lrs([lr * f for lr, f in zip(self.written, factors, strict=True)])
        return []

    def _tell_ignored(self, what: str, why: str, fix: str) -> None:
        rule = f"what {type(self.policy).__name__} decides on {what}"
        self.notices.tell(what, f"{rule} is not carried out: {why}. It stays as it is. Fix: {fix}")

    def _scale_weight_decay(self, wanted: float, now: float | None) -> list[str]:
        if not now:
            self._tell_ignored("weight_decay", "there is none to scale", "give the optimizer a weight_decay above 0")
            return ["weight decay held: there is none to scale"]
        for group in self.optimizer.param_groups:
            if "weight_decay" in group:
                group["weight_decay"] = float(group["weight_decay"]) * (wanted / now)
        return []


def _describe(policy: Policy) -> str:
    """The policy's repr without memory addresses, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(policy))
