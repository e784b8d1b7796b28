"""The only writer of hyperparameters: asks the policy, and puts its answer into the param groups."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch.optim import Optimizer

from dcao.checkpoints import keys_of, require_kinds, require_lengths
from dcao.groups import Roster, as_stored, carry, set_lrs
from dcao.lr_schedulers import has_scheduler, schedulers_of
from dcao.policies.base import Decision, Hyperparameters, Observation, Policy, State
from dcao.telling.notices import Notices, warn
from dcao.updates.registry import OptimizerModel

Group = dict[str, Any]


class Controller:
    """Owns the policy's state and the scale on the learning rate.

    What trains is ``nominal lr * scale``. As long as nobody else writes an lr, the param groups hold this product. Once
    a scheduler (or a person) is seen to write one, they hold the nominal lr, which is left to the scheduler, and the
    scale is applied only while the base optimizer steps. From then on the scale is at most 1, so that a policy that
    chases a target cannot undo a decay, unless the policy says ``governor = False``.

    Args:
        policy: The rule that decides.
        optimizer: The base optimizer, whose groups are written.
        record: Description of its class; None for an unknown class, whose momentum is not written.
        notices: Tells the caller what cannot be carried out.
    """

    def __init__(
        self, policy: Policy, optimizer: Optimizer, record: OptimizerModel | None, notices: Notices | None = None
    ) -> None:
        self.policy, self.optimizer, self.record = policy, optimizer, record
        self.notices = Notices() if notices is None else notices
        self.scale = 1.0
        self.governed = False
        self.looked = False  # whether the first write has looked for a scheduler that leaves no mark
        self.policy_state: State | None = None
        self._undecided: tuple[int, Hyperparameters, State | None] | None = None  # as before the last decision
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
        self.written = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.momenta = [self._momentum(group) for group in self.optimizer.param_groups]
        self.compensation += [1.0] * (len(self.written) - len(self.compensation))

    def effective_lrs(self) -> list[float]:
        """The lr that the coming step uses, for each group."""
        lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        if not self.governed:
            return lrs
        return [lr * self.scale * factor for lr, factor in zip(lrs, self.compensation, strict=True)]

    def hyperparameters(self) -> Hyperparameters:
        """Values of the reference group: the one with the largest lr."""
        lrs = self.effective_lrs()
        reference = max(range(len(lrs)), key=lrs.__getitem__)
        decays = [float(group["weight_decay"]) for group in self.optimizer.param_groups if "weight_decay" in group]
        return Hyperparameters(
            lr=lrs[reference],
            momentum=self._momentum(self.optimizer.param_groups[reference]),
            weight_decay=max(decays) if decays else None,
        )

    def sync(self) -> None:
        """Notice new groups, groups that are gone, and a scheduler, or anybody else, that has written an lr."""
        origins = self.roster.update()
        lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        if origins is not None:
            self.written = carry(self.written, origins, lrs)
            self.momenta = carry(self.momenta, origins, [self._momentum(g) for g in self.optimizer.param_groups])
            self.compensation = carry(self.compensation, origins, [1.0] * len(lrs))
        if not self.governed and (lrs != self.written or has_scheduler(self.optimizer)):
            self._become_governor()
        elif origins is not None and not self.governed and self.policy.adapts:
            uncompensated = [lr / factor for lr, factor in zip(self.written, self.compensation, strict=True)]
            self.roster.scale_added(origins, uncompensated)
            self.written = [float(group["lr"]) for group in self.optimizer.param_groups]

    # --- deciding and writing ---------------------------------------------------------------------------------

    def decide(self, observation: Observation) -> Decision:
        """Ask the policy, and keep its next state; TypeError if the answer is not a decision and a state."""
        if self._undecided is None or self._undecided[0] != observation.step:
            self._undecided = observation.step, observation.hyperparameters, copy.deepcopy(self.policy_state)
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
            _, before, state = self._undecided
            self.apply(Decision(hyperparameters=before, reason=""))
            self.policy_state = state

    def rising_lr(self, step: int) -> float | None:
        """The lr that has trained so far, if the policy wants the loss watched while it rises."""
        if self.policy_state is None or not self.policy.watches_loss(step, self.policy_state):
            return None
        return self.hyperparameters().lr

    def turn_back(self, lr: float) -> None:
        """Tell the policy that the loss has turned up since lr was this."""
        if self.policy_state is not None:
            self.policy_state = self.policy.turned_back(lr, self.policy_state)

    def move_on(self, step: int) -> None:
        """Write what the policy has planned for a step without a probe, if it plans ahead."""
        if self.policy_state is None:
            return
        now = self.hyperparameters()
        wanted = self.policy.between(step, now, self.policy_state)
        if wanted.lr != now.lr:
            self.scale_lr(wanted.lr, now.lr)

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
        scale = self.scale * (wanted / now)
        self.scale = min(scale, 1.0) if self.governed and self.policy.governor else scale
        if not self.governed:
            self._write_lrs([wanted if lr == now else lr * (wanted / now) for lr in self.written])
        return ["held at the scheduled lr: governor"] if self.scale < scale else []

    @contextmanager
    def training_lrs(self) -> Iterator[None]:
        """While the base optimizer steps, its groups hold the lr that trains."""
        if not self.governed or (self.scale == 1.0 and set(self.compensation) == {1.0}):
            yield  # they do already; a tensor lr is not read back from its device
            return
        effective = self.effective_lrs()
        nominal = [float(group["lr"]) for group in self.optimizer.param_groups]
        set_lrs(self.optimizer, effective)
        try:
            yield
        finally:
            set_lrs(self.optimizer, nominal)

    def state_dict(self) -> dict[str, Any]:
        """JSON-plain state."""
        return {
            "scale": self.scale,
            "governed": self.governed,
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
            self.scale, self.governed, self.looked, self.policy_state, self.compensation = 1.0, False, False, None, []
            self.note_groups()
            return
        self.scale, self.governed, self.looked = state["scale"], state["governed"], state["looked"]
        # Another policy's state would mean nothing to this one.
        self.policy_state = state["policy_state"] if state["policy"] == _describe(self.policy) else None
        # Not read from the groups: what somebody else had written before the checkpoint is still theirs after it.
        self.compensation, self.written = list(state["compensation"]), list(state["written"])
        self.momenta = list(state["momenta"])

    # --- helpers ----------------------------------------------------------------------------------------------

    def _become_governor(self) -> None:
        """Take the groups' present lr for the nominal one, and start the scale over from 1."""
        self.governed, self.scale = True, 1.0
        self.compensation = [1.0] * len(self.optimizer.param_groups)

    def _look_for_scheduler(self) -> None:
        """Before the first write: ``ReduceLROnPlateau`` leaves no mark on the groups until it writes an lr itself."""
        if not self.governed and not self.looked and schedulers_of(self.optimizer):
            self._become_governor()
        self.looked = True

    def _write_lrs(self, lrs: list[float]) -> None:
        set_lrs(self.optimizer, lrs)
        self.written = [as_stored(group["lr"], lr) for group, lr in zip(self.optimizer.param_groups, lrs, strict=True)]

    def _momentum(self, group: Group) -> float | None:
        if self.record is None or self.record.momentum_key is None:
            return None
        value = group[self.record.momentum_key]
        return float(value[0] if self.record.momentum_key == "betas" else value)

    def _write_momentum(self, wanted: float, now: float | None) -> list[str]:
        """Change momentum in the groups that share the reference group's, without a jump in the step."""
        if [self._momentum(group) for group in self.optimizer.param_groups] != self.momenta:
            fix = "drop the rule, or whoever writes momentum (OneCycleLR does, unless cycle_momentum=False)"
            self._tell_ignored("momentum", "somebody else sets it", fix)
            return ["momentum held: somebody else sets it"]
        if self.record is None or now is None:
            self._tell_ignored("momentum", "this optimizer has none that DCAO knows", "drop the rule")
            return ["momentum held: the optimizer has none"]
        factors = [1.0] * len(self.momenta)
        for index, group in enumerate(self.optimizer.param_groups):
            if self.momenta[index] != now:
                continue
            if self.record.momentum_key == "betas":
                group["betas"] = (wanted, *group["betas"][1:])
            else:
                group["momentum"] = wanted
                if self.policy.compensate:
                    factors[index] = (1.0 - wanted) / (1.0 - now)  # the buffer sums: hold lr / (1 - momentum)
            if self.policy.compensate and self.record.rescale_momentum is not None:
                for p in group["params"]:
                    if self.optimizer.state.get(p):
                        self.record.rescale_momentum(group, self.optimizer.state[p], now, wanted)
        self.momenta = [self._momentum(group) for group in self.optimizer.param_groups]
        self.compensation = [c * f for c, f in zip(self.compensation, factors, strict=True)]
        if not self.governed:
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
