"""What goes wrong for long without an error: each is told to the caller once, with its cause and what helps."""

from __future__ import annotations

from collections import deque

from torch.optim import LBFGS, Optimizer

from dcao.controller import Controller
from dcao.policies.base import Decision, Hyperparameters, Observation, Policy, reason_to_hold
from dcao.policies.compose import rules_of
from dcao.probing.batch import Batch
from dcao.probing.directional import NO_STEP
from dcao.probing.estimate import CurvatureEstimate
from dcao.telling.failures import Failure
from dcao.telling.limits import LimitWatch
from dcao.telling.notices import LONG, Notices

RECENT, FAILED = 10, 3
"""Of so many last probes so many may fail; the very first one may not."""

NO_LR = "lr is 0, so nothing trains: let the scheduler end above 0, or end the training with it"

HELD = 3
"""Probes in a row that could not be acted on: as few as these are told if they are spread over :data:`LONG` steps."""


class Watch:
    """Sees failed and useless probes, limits on lr, a run past its end and steps that are skipped all the time.

    Args:
        controller: Knows the policy, and the lr that trains.
        notices: Tells the caller.
    """

    def __init__(self, controller: Controller, notices: Notices) -> None:
        self.controller, self.notices = controller, notices
        self.limits = LimitWatch(controller, notices)
        self._total_steps = total_steps_of(controller.policy)
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget all steps and probes, but not what has been told."""
        self.limits.start_afresh()
        self._has_measured = False
        self._failures: deque[bool] = deque(maxlen=RECENT)
        self._held_since: int | None = None
        self._num_held = 0
        self._skipped: deque[int] = deque(maxlen=LONG // 2 + 1)

    # --- probes -----------------------------------------------------------------------------------------------

    def note_probe(
        self,
        estimate: CurvatureEstimate,
        observation: Observation,
        decision: Decision,
        failure: Failure | None,
    ) -> None:
        """A probe, the policy's answer before it was carried out, and why the probe failed if it did."""
        self._failures.append(failure is not None)
        self._has_measured = self._has_measured or failure is None
        reason = _why_held(observation, decision)
        if reason is None:
            self.limits.note(self._allowed(observation, decision))
        if failure is not None:
            if not self._has_measured or sum(self._failures) >= FAILED:
                self._tell_failure(failure)
        elif reason is None:
            self._held_since, self._num_held = None, 0
        else:
            self._note_held(estimate, observation, reason)

    def note_flat(self, step: int, probed_at: int, batch: Batch | None, *, has_lr: bool) -> None:
        """A probe was due at this step, and the gradient that it would follow is zero, or lr is.

        A loss of 0 that could be probed before, as a margin loss, is learnt to the end: nothing is wrong with it.
        """
        since = max(probed_at, 0)
        if step - since < LONG:
            return
        is_learnt = probed_at >= 0 and batch is not None and batch.loss_value() == 0.0
        if not is_learnt:
            self._tell_held(since, NO_STEP, _help_for_held(NO_STEP) if has_lr else NO_LR)

    def note_missed(self, step: int, probed_at: int) -> None:
        """A probe was due at this step, and step() alone has nothing to probe."""
        if step - probed_at >= LONG:
            self.notices.tell(
                "missed probes",
                f"the last probe was before step {probed_at}, and step() alone, without a loss, cannot make the next: "
                f"{self._meanwhile()}. Fix: call optimizer.probe(loss_fn) every few steps, or better "
                "optimizer.probe_if_due(loss_fn) before each, or train with minimize(loss_fn) or step(closure)",
            )

    def note_passed_through(self, base: Optimizer) -> None:
        """A probe was due, and the closure went to an optimizer that may call it as it pleases."""
        name = type(base).__name__
        otherwise = "" if isinstance(base, LBFGS) else ", or train with minimize(loss_fn)"  # which refuses LBFGS
        self.notices.tell(
            "passed through",
            f"step(closure) hands the closure to {name}, which DCAO does not know, so that no probe is made. Training "
            f"goes on as without DCAO. Fix: call optimizer.probe(loss_fn) every few steps{otherwise}",
        )

    def _allowed(self, observation: Observation, decision: Decision) -> float:
        state = self.controller.policy_state
        allowed = None if state is None else self.controller.policy.allowed_lr(observation, state)
        return max(decision.hyperparameters.lr, allowed or 0.0)

    def _note_held(self, estimate: CurvatureEstimate, observation: Observation, reason: str) -> None:
        self._held_since = observation.step if self._held_since is None else self._held_since
        self._num_held += 1
        if self._num_held >= HELD and observation.step - self._held_since >= LONG:
            why = "; ".join(words for words in (estimate.reason, reason.removeprefix("lr ")) if words)
            has_lr = observation.hyperparameters.lr > 0.0
            self._tell_held(self._held_since, why, _help_for_held(why) if has_lr else NO_LR)

    def _tell_held(self, since: int, why: str, fix: str) -> None:
        meanwhile = self._meanwhile(capital=True)
        self.notices.tell("held", f"no probe since step {since} could be acted on: {why}. {meanwhile}. Fix: {fix}")

    def _tell_failure(self, failure: Failure) -> None:
        how_often = "Probes fail" if self._has_measured else "The first probe has failed"
        cause = f". Probably {failure.cause}" if failure.cause else ""
        fix = f"{failure.fix}; " if failure.fix else ""
        self.notices.tell(
            "failed probe",
            f"{how_often}: {failure.error}{cause}. {self._meanwhile(capital=True)}. Fix: {fix}optimizer.probe(loss_fn) "
            "raises the error with its traceback; policy=policies.Fixed() trains without probes",
        )

    def _meanwhile(self, *, capital: bool = False) -> str:
        lr = self.controller.training_hyperparameters().lr
        if not self.controller.policy.adapts:
            text = f"training goes on as without DCAO, at lr {lr:.3g}, and its curvature is not known"
        elif self._has_measured:
            text = f"until one can be acted on, lr goes on from {lr:.3g} without a new limit"
        else:
            text = f"until one succeeds, lr stays as it is, at {lr:.3g}"
        return text[0].upper() + text[1:] if capital else text

    # --- steps ------------------------------------------------------------------------------------------------

    def begin_step(self, step: int, *, was_due: bool) -> None:
        """A step that has a gradient, with the lr that will train, and whether any probe has been due so far."""
        self.limits.begin_step()
        if self._total_steps is not None and step >= self._total_steps:
            self._tell_end(step, self._total_steps)
        if step >= LONG and not was_due and self.controller.policy.adapts:
            self.notices.tell(
                "never probed",
                f"no probe has been due in {step} steps, because every= never says so: {self._meanwhile()}. "
                "Fix: leave every= out, or let it return True more often",
            )

    def note_skip(self, step: int, reason: str) -> None:
        """The guard has skipped a step."""
        self._skipped.append(step)
        if len(self._skipped) == self._skipped.maxlen and step - self._skipped[0] < LONG:
            self.notices.tell(
                "skips",
                f"the guard has skipped more than half of the last {LONG} steps, the last one because of this: "
                f"{reason}. Such steps train nothing. Fix: look at the data and at the loss; if they are meant to be "
                "like this, guard=dcao.Guard(outlier=...) with a larger factor skips less, and guard=False nothing",
            )

    def _tell_end(self, step: int, total_steps: int) -> None:
        if self.controller.hyperparameters().shape.decays:
            return  # the scheduler's decay has taken the place of the rule's own
        lr = self.controller.training_hyperparameters().lr
        self.notices.tell(
            "past the end",
            f"step {step} is past the end of the run, for total_steps={total_steps} was given (the first step is 0): "
            f"the decay of lr has ended, and its last fraction of the usual lr, now {lr:.3g}, trains from here on. "
            "Fix: total_steps counts steps of the optimizer, not epochs: give len(loader) * num_epochs, or leave it "
            "out for no decay",
        )


def total_steps_of(policy: Policy) -> int | None:
    """Largest ``total_steps`` among the policy's rules that decay lr; None if none does."""
    rules = [rule for rule in rules_of(policy) if getattr(rule, "decay", None) != 0.0]
    return max((total for rule in rules if (total := getattr(rule, "total_steps", None)) is not None), default=None)


def _why_held(observation: Observation, decision: Decision) -> str | None:
    """Why a probe could not be acted on; None if it was."""
    if decision.reason.startswith("lr held"):
        return decision.reason
    before: Hyperparameters = observation.hyperparameters
    return reason_to_hold(observation, needs_curvature=False) if decision.hyperparameters == before else None


def _help_for_held(why: str) -> str:
    if "gradient is zero" in why:
        return "the loss does not depend on the weights here: look for detached tensors, dead units and empty batches"
    if "requires grad" in why:
        return "measure groups that are trained (ProbeSettings(groups=...)), or thaw these"
    if "not finite" in why or "nan" in why:
        return "look for nan in the batches, the weights and the loss"
    if "trusted only" in why:
        return "let Lanczos run longer (ProbeSettings(num_lanczos_steps=...)), or give the policy a smaller min_trust"
    if "no positive curvature" in why:
        return "policies.Ceiling(), which has other limits too, goes on where curvature sets none"
    return "give other batches to probe as probe_batch=, or another measure="
