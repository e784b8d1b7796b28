"""When to probe, on what, and what follows: from the training batch to a decision that is carried out and recorded."""

from __future__ import annotations

import math
import time
from typing import Any

from dcao.checks import nothing_to_probe
from dcao.controller import Controller
from dcao.failures import Failure, is_of_dcao
from dcao.gradients import UnreachedError, any_is_not_zero
from dcao.guard import Verdict
from dcao.isolation import RngState, leave_no_trace
from dcao.operators.base import LossFn, not_callable
from dcao.policies.base import Decision, Hyperparameters, Observation
from dcao.probing.batch import Batch
from dcao.probing.estimate import CurvatureEstimate, blown_up
from dcao.probing.loader import ProbeLoader
from dcao.probing.micro_batches import mean_of_losses
from dcao.probing.probe import Probe
from dcao.schedules import Schedule
from dcao.telemetry import Recorder, SafeRecording
from dcao.watch import Watch

MAX_PROBES_BEFORE_START = 60
"""Probes before the first update: 0.8**60 takes an lr of 10 below 2e-5."""


class ProbeLoop:
    """Probes when due, asks the controller, records; counts steps and cost.

    Args:
        probe: Measures the loss.
        controller: Asks the policy and writes its answer.
        schedule: When the measure that decides is due; None: never.
        spectrum: When a Lanczos run that only informs is due; None: never.
        is_demanded: Whether the caller asked for a schedule: a due probe with nothing to probe is then an error.
        probe_batch: What to probe; None: the training batch.
        recorder: Takes the records.

    Attributes:
        num_steps: Optimizer steps taken.
        cost: Gradient evaluations that probes have cost.
        last_estimate: What the last probe measured.
        last_decision: What the policy has answered to it.
        hooks_write: Whether pre-hooks of the base have been seen to write to the gradients.
    """

    def __init__(
        self,
        probe: Probe,
        controller: Controller,
        *,
        schedule: Schedule | None,
        spectrum: Schedule | None,
        is_demanded: bool,
        probe_batch: LossFn | ProbeLoader | None,
        recorder: Recorder | None,
    ) -> None:
        self.probe, self.controller = probe, controller
        self.schedule, self.spectrum, self.is_demanded = schedule, spectrum, is_demanded
        self.probe_batch, self.recorder = probe_batch, recorder
        self.recording = SafeRecording(recorder, controller.notices)
        self.watch = Watch(controller, controller.notices)
        self._grants_more = schedule is not None and schedule.grants_more
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget all steps and probes."""
        self.probe.start_afresh()
        self.watch.start_afresh()
        self._failure: Failure | None = None  # of the probe that is being answered
        self.last_estimate: CurvatureEstimate | None = None
        self.last_decision: Decision | None = None
        self.num_steps, self.cost = 0, 0.0
        self.hooks_write = False
        self._scheduled_cost = 0.0  # the cost without spectra, which no budget pays for
        self._last_cost = 1.0  # a guess, until the first probe says what it cost
        # The last: whether probes of other batches say nothing about the coming one.
        self._took_spectrum = self._probe_again = self._is_unlike_others = False
        self._is_owed = False  # by a step that had no gradient
        self._probed_at = -1
        self._due_at_start = self.schedule is not None and self.schedule(0, self._last_cost)
        self._due = self._is_due_at(0)

    def is_due(self) -> bool:
        """Whether a probe is due before the coming step."""
        return self._due and self._probed_at != self.num_steps

    def start_of(self, loss_fn: object) -> RngState | None:
        """What a probe of the coming training pass will start from, if one is due."""
        return self.probe.start(loss_fn) if self.is_due() and self.probe_batch is None else None

    def before_step(self, batch: Batch | None, *, has_gradient: bool = True) -> None:
        """Probe the coming step's batch if a probe is due; else let the policy move lr as it has planned.

        Without a gradient, or along one that is zero, there is nothing to probe: what is due is owed to the next step
        that has one.
        """
        if has_gradient and self.is_due() and not self._has_no_direction(batch):
            self._probe(batch)
        elif has_gradient and self._is_unlike_others and batch is not None:
            self._probe(batch.anew(self.probe.start))
        else:
            self._is_owed = self.is_due()
            self.controller.move_on(self.num_steps)
            if has_gradient and self._is_owed:
                self.watch.note_flat(self.num_steps, self._probed_at)
        if has_gradient:
            self.watch.begin_step(self.num_steps, was_due=self._is_owed or self._probed_at >= 0)

    def _has_no_direction(self, batch: Batch | None) -> bool:
        """Whether a probe that decides would say nothing, because the gradient that it would follow is zero."""
        is_training = batch is not None and batch.is_training and self.probe_batch is None
        follows = self.controller.policy.adapts and self.probe.settings.measure in ("load", "batch")
        return is_training and follows and not any_is_not_zero(self.probe.params())

    def _probe(self, batch: Batch | None) -> None:
        loss, started = None if batch is None else batch.loss_value(), time.perf_counter()
        try:
            batches = self._batches(batch)
        except Exception as error:
            self._act(self._failed(error), loss, started)
            return
        if batches is None:
            if self.is_demanded or self._probed_at < 0:  # the caller set a schedule, or would never probe at all
                raise nothing_to_probe(self.num_steps)
            self._is_owed = False  # whoever probes by hand chooses the step
            self.watch.note_missed(self.num_steps, self._probed_at)
            self.controller.move_on(self.num_steps)
            return
        for _ in range(self._num_probes_at_most()):
            started = time.perf_counter()
            estimate = self._try_to_measure(batches)
            if not self._act(estimate, estimate.loss if loss is None else loss, started):
                break

    def act_again(self, batch: Batch | None) -> None:
        """Probe and decide anew: since this step's probe hooks have written to the gradients."""
        self.controller.take_back()
        self.hooks_write, self._probed_at = True, self.num_steps - 1
        self.before_step(batch)

    def decide_again(self, estimate: CurvatureEstimate) -> None:
        """Take this step's decision back, and decide on another estimate."""
        self.controller.take_back()
        self._act(estimate, estimate.loss, time.perf_counter())

    def finish_step(self, *, taken: bool) -> None:
        """Count a step, and keep its gradient if the next step is going to be probed."""
        self.num_steps += 1
        self._due = self._is_due_at(self.num_steps)
        self.probe.memory.past_gradient = self.probe.memory.probed = None
        self._is_unlike_others = False
        if taken and self._due and self.probe_batch is None:
            self.probe.remember_gradient()

    def probe_now(self, loss_fn: LossFn, *, spectrum: bool, may_miss: bool) -> CurvatureEstimate:
        """Probe ``loss_fn`` now; what it raises passes through.

        If it ``may_miss`` the parameters, as in a phase in which others are trained, this is only a reason.
        """
        if not callable(loss_fn):
            raise not_callable(loss_fn)
        batch = mean_of_losses([loss_fn], self.probe.start(loss_fn))
        for _ in range(self._num_probes_at_most()):
            started = time.perf_counter()
            try:
                estimate = self._measure([batch], spectrum=spectrum)
            except UnreachedError as error:
                if not may_miss:
                    raise
                estimate = self._untrusted(error)
            if not self._act(estimate, estimate.loss, started):
                break
        return estimate

    def answer(self, verdict: Verdict, loss: float | None) -> None:
        """Scale lr as the guard says, record what it has found, and tell the policy if the run blew up."""
        before = self.controller.hyperparameters()
        if verdict.skips:
            self.watch.note_skip(self.num_steps, verdict.reason)
        if self.controller.policy.adapts:
            self.controller.scale_lr(verdict.factor)
        decision = Decision(hyperparameters=self.controller.hyperparameters(), reason=verdict.reason)
        self._record(decision, before, loss)
        self._is_unlike_others = verdict.is_data and self._grants_more and self.probe_batch is None
        if verdict.went_back and self.controller.policy.adapts:
            self._act(blown_up(self.num_steps, self.probe.settings.measure, loss), loss, time.perf_counter())

    def state_dict(self) -> dict[str, Any]:
        """Counters, and what the next probe starts from."""
        loader = self.probe_batch
        return {
            "num_steps": self.num_steps,
            "cost": self.cost,
            "scheduled_cost": self._scheduled_cost,
            "last_cost": self._last_cost,
            "probe_again": self._probe_again,
            "is_owed": self._is_owed,
            "schedule": self.watch.limits.state_dict(),
            "probed_at": self._probed_at,
            "probe": self.probe.memory.state_dict(),
            "loader": loader.state_dict() if isinstance(loader, ProbeLoader) else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.start_afresh()
        self.num_steps, self.cost, self._last_cost = state["num_steps"], state["cost"], state["last_cost"]
        self._probed_at, self._scheduled_cost = state["probed_at"], state["scheduled_cost"]
        # Only the policy that asked for the pending probe still wants it, and this schedule may not grant it.
        is_same_policy = self.controller.policy_state is not None
        self._probe_again = state["probe_again"] and is_same_policy and self._grants_more
        self._is_owed = state["is_owed"]
        self.watch.limits.load_state_dict(state["schedule"])
        self._due = self._is_due_at(self.num_steps)
        self.probe.memory.load_state_dict(state["probe"])
        if isinstance(self.probe_batch, ProbeLoader) and state["loader"] is not None:
            self.probe_batch.load_state_dict(state["loader"])

    # --- when -------------------------------------------------------------------------------------------------

    def _is_due_at(self, step: int) -> bool:
        is_first = self._due_at_start and self._probed_at < 0  # also if the guard has skipped its step
        if is_first or self._is_owed or self._probe_again or self._spectrum_is_due_at(step):
            return True
        return self.schedule is not None and self.schedule(step, self._scheduled_cost + self._last_cost)

    def _spectrum_is_due_at(self, step: int) -> bool:
        """At most once a step: the probes that search for an lr before the first update need one spectrum together."""
        return self.spectrum is not None and self._probed_at != step and self.spectrum(step, 0.0)

    def _num_probes_at_most(self) -> int:
        """Before the first update a policy may ask for probe after probe, because no step has been lost yet."""
        return MAX_PROBES_BEFORE_START if self.num_steps == 0 else 1

    # --- what -------------------------------------------------------------------------------------------------

    def _batches(self, training: Batch | None) -> list[Batch] | None:
        if self.probe_batch is None:
            return None if training is None else [training]
        if self.probe.is_held:
            return []
        if not isinstance(self.probe_batch, ProbeLoader):
            return [Batch(loss_fn=self.probe_batch, rng_state=self.probe.start(self.probe_batch))]
        with leave_no_trace(self.probe.params(), modules=self.probe.model.look()[0]):
            return self.probe_batch.draw(self.probe.start(self.probe_batch.batch_loss))

    def _try_to_measure(self, batches: list[Batch]) -> CurvatureEstimate:
        try:
            return self._measure(batches, spectrum=self._spectrum_is_due_at(self.num_steps))
        except Exception as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> CurvatureEstimate:
        """A probe never stops training: whatever it raises becomes the reason of an estimate without trust.

        At the first probe what is wrong with the settings, or with a loss given to probe, is still an error.
        """
        is_mistake = isinstance(error, (TypeError, ValueError)) and (self.probe_batch is not None or is_of_dcao(error))
        if is_mistake and self._probed_at < 0:
            raise error
        return self._untrusted(error)

    def _untrusted(self, error: Exception) -> CurvatureEstimate:
        self._failure = Failure.of(error, is_again=self.probe_batch is None)
        reason = f"the probe failed: {type(error).__name__}: {error}"
        measure, cost = self.probe.settings.measure, self._last_cost + self.probe.num_checks
        return CurvatureEstimate(step=self.num_steps, measure=measure, cost=cost, reason=reason)

    def _measure(self, batches: list[Batch], *, spectrum: bool) -> CurvatureEstimate:
        self._took_spectrum = spectrum
        with self.controller.training_lrs():
            return self.probe.measure(batches, step=self.num_steps, spectrum=spectrum)

    # --- what follows -----------------------------------------------------------------------------------------

    def _act(self, estimate: CurvatureEstimate, loss: float | None, started: float) -> bool:
        """Ask the policy, carry out its answer, record both; returns whether it cut lr and wants another probe."""
        before = self.controller.hyperparameters()
        observation = Observation(
            step=self.num_steps,
            s=None if estimate.s is None or math.isnan(estimate.s) else estimate.s,
            trust=estimate.trust,
            hyperparameters=before,
            relative_step=estimate.relative_step,
        )
        decision = self.controller.decide(observation)
        failure, self._failure = self._failure, None
        carried_out = self.controller.apply(decision)
        after = self.controller.hyperparameters()
        self._count(estimate.cost)
        wanted = decision.hyperparameters.lr
        is_held = wanted != before.lr == after.lr  # by a scheduler: probing faster would gain nothing
        self._probe_again = decision.probe_again and self._grants_more and not is_held
        self.last_estimate, self.last_decision = estimate, carried_out
        seconds = time.perf_counter() - started
        self._record(carried_out, before, loss, estimate=estimate, observation=observation, seconds=seconds)
        if not self.probe.is_held:  # of which the caller has been told
            self.watch.note_probe(estimate, observation, decision, failure)
        return self._probe_again and wanted < before.lr

    def _count(self, cost: float) -> None:
        self.cost += cost
        cost, self.probe.num_checks = cost - self.probe.num_checks, 0  # no schedule pays for the first probe's check
        if cost and not self._took_spectrum:  # a blow-up is reported for nothing
            self._last_cost = cost
        self._scheduled_cost += min(self._last_cost, cost)  # of a spectrum, what a probe alone would cost
        self._probed_at, self._is_owed = self.num_steps, False

    def _record(self, decision: Decision, before: Hyperparameters, loss: float | None, **known: Any) -> None:
        known |= {"step": self.num_steps, "total_cost": self.cost, "after": self.controller.hyperparameters()}
        self.recording.record(decision=decision, before=before, loss=loss, **known)
