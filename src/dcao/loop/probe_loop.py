"""When to probe, on what, and what follows: from the training batch to a decision that is carried out and recorded."""

from __future__ import annotations

import math
import time
from typing import Any

from dcao.controller import Controller
from dcao.gradients.presence import UnreachedError
from dcao.isolation import RngState
from dcao.loop.agreeing import AgreementWatch, is_wanted
from dcao.loop.informing import inform
from dcao.loop.turns import ProbeTurns, SpectrumTurns, most_probes
from dcao.operators.base import LossFn, not_callable
from dcao.policies.base import Decision, Hyperparameters, Observation
from dcao.probing.batch import Batch, gradients_left, mean_loss_of
from dcao.probing.estimate import CurvatureEstimate
from dcao.probing.loader import ProbeLoader
from dcao.probing.micro_batches import mean_of_losses
from dcao.probing.probe import Probe
from dcao.probing.ranks import on_any_rank
from dcao.probing.source import ProbeSource, nothing_to_probe
from dcao.recorders.base import Recorder
from dcao.recorders.safe import SafeRecording
from dcao.schedules import Schedule
from dcao.telling.failures import Failure, is_of_dcao
from dcao.telling.watch import Watch


class ProbeLoop:
    """Probes when due, asks the controller, records; counts steps and cost.

    Args:
        probe: Measures the loss.
        controller: Asks the policy and writes its answer.
        schedule: When the measure that decides is due; None: never.
        spectrum: When a spectrum that only informs is due; None: never.
        is_demanded: Whether the caller asked for a schedule: a due probe with nothing to probe is then an error.
        probe_batch: What to probe; None: the training batch.
        recorder: Takes the records.

    Attributes:
        num_steps: Optimizer steps taken.
        cost: Gradient evaluations that probes have cost.
        at_top: What the last probe that decides has measured, under a scheduler at the lr at its top.
        last_estimate: What the last probe measured, be it one that decides or a spectrum, at the lr that trains.
        last_spectrum: The last estimate that has a spectrum.
        last_decision: What the policy has answered last.
        is_unlike_others: Whether probes of other batches say nothing about the coming one.
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
        self.turns, self.spectrum_turns, self.is_demanded = ProbeTurns(schedule), SpectrumTurns(spectrum), is_demanded
        self.source = ProbeSource(probe_batch, probe, is_shared=schedule is not None and spectrum is not None)
        self.recording = SafeRecording(recorder, controller.notices)
        self.watch = Watch(controller, controller.notices)
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget all steps and probes."""
        self.probe.start_afresh()
        self.turns.start_afresh()
        self.spectrum_turns.start_afresh()
        self.watch.start_afresh()
        self.agreement = AgreementWatch()
        self.failure: Failure | None = None  # of the probe that is being answered
        self.at_top: CurvatureEstimate | None = None
        self.last_estimate: CurvatureEstimate | None = None
        self.last_spectrum: CurvatureEstimate | None = None
        self.last_decision: Decision | None = None
        self.num_steps, self.cost, self.hooks_write, self.is_unlike_others = 0, 0.0, False, False

    def is_due(self) -> bool:
        """Whether a probe or a spectrum is due before the coming step."""
        return self.decides() or self.spectrum_turns.is_due(self.num_steps)

    def decides(self) -> bool:
        """Whether a probe on which the policy decides is due before the coming step."""
        return self.turns.is_due(self.num_steps)

    def start_of(self, loss_fn: object) -> RngState | None:
        """What a probe of the coming training pass will start from, if one is due."""
        return self.probe.start(loss_fn) if self.is_due() and self.source.is_training_batch else None

    def before_step(self, batch: Batch | None, *, has_gradient: bool = True) -> None:
        """Probe the coming step's batch if a probe is due; else let the policy move lr as it has planned.

        Without a gradient, along one that is zero, or at an lr of 0, with which many warmups start, there is nothing to
        probe: what is due waits for the next step that moves.
        """
        is_due = self.decides()
        moves = has_gradient and not self.controller.trains_nothing
        if moves and is_due and not self._has_no_direction(batch):
            self._probe(batch)
        elif moves and self.is_unlike_others and batch is not None:
            self._probe(batch.anew(self.probe.start))
        else:
            self.turns.is_owed = is_due
            if has_gradient and self.agreement.past is not None:
                self.agreement.note(gradients_left(self.probe.params()))
            self.controller.move_on(self.num_steps)
            if has_gradient and self.turns.is_owed:
                self.watch.note_flat(self.num_steps, self.turns.taken_at, batch, has_lr=moves)
            if has_gradient and self.spectrum_turns.is_due(self.num_steps):
                inform(self, batch)
        if has_gradient:
            self.watch.begin_step(self.num_steps, was_due=self.turns.is_owed or self.turns.has_begun)

    def probe_by_hand(self, batch: Batch) -> None:
        """Probe before the coming step in a loop that calls backward itself."""
        if self.decides() or not self.spectrum_turns.is_due(self.num_steps):
            self.before_step(batch)
        else:
            inform(self, batch)

    def _has_no_direction(self, batch: Batch | None) -> bool:
        """Whether a probe that decides would say nothing, because the gradient that it would follow is zero."""
        is_training = batch is not None and batch.is_training and self.source.is_training_batch
        return is_training and self.controller.policy.adapts and self.probe.has_no_direction()

    def _probe(self, batch: Batch | None) -> None:
        loss, started = mean_loss_of(batch, self.probe.model), time.perf_counter()
        try:
            batches = self.source.batches(batch, decides=True)
        except Exception as error:
            self.act(self.failed(error, is_first=not self.turns.has_begun), loss, started)
            return
        if batches is None:
            if self.is_demanded or not self.turns.has_begun:  # the caller set a schedule, or would never probe at all
                raise nothing_to_probe(self.num_steps)
            self.turns.is_owed = False  # whoever probes by hand chooses the step
            self.watch.note_missed(self.num_steps, self.turns.taken_at)
            self.controller.move_on(self.num_steps)
            return
        for _ in range(most_probes(self.num_steps)):
            started = time.perf_counter()
            estimate = self._try_to_measure(batches)
            if not self.act(estimate, loss, started, self.probe.spectrum_cost):
                break

    def act_again(self, batch: Batch | None) -> None:
        """Probe and decide again: since this step's probe hooks have written to the gradients."""
        self.controller.take_back()
        self.hooks_write = True
        self.turns.take_back(self.num_steps)
        self.before_step(batch)

    def decide_again(self, estimate: CurvatureEstimate) -> None:
        """Take this step's decision back, and decide on another estimate."""
        self.controller.take_back()
        self.act(estimate, estimate.loss, time.perf_counter())

    def finish_step(self, *, taken: bool) -> None:
        """Count a step, and keep its gradient if the next step is going to be probed."""
        self.spectrum_turns.pass_step(self.num_steps)
        if self.turns.taken_at == self.num_steps:
            self.agreement.sizes = []
        self.num_steps += 1
        self.turns.begin(self.num_steps)
        self.probe.forget_gradient()
        self.is_unlike_others = False
        if taken and self.is_due() and self.source.is_training_batch:
            self.probe.remember_gradient(decides=self.decides())
        goes_on = taken and self.source.is_training_batch and is_wanted(self.controller, self.num_steps)
        self.agreement.past = self.probe.last_gradient() if goes_on else None

    def probe_now(self, loss_fn: LossFn, *, spectrum: bool, may_miss: bool) -> CurvatureEstimate:
        """Probe ``loss_fn`` now; what it raises passes through.

        If it ``may_miss`` the parameters, as in a phase in which others are trained, this is only a reason.
        """
        if not callable(loss_fn):
            raise not_callable(loss_fn)
        batch = mean_of_losses([loss_fn], self.probe)
        for _ in range(most_probes(self.num_steps)):
            started = time.perf_counter()
            try:
                estimate = self._measure([batch], spectrum=spectrum or self.spectrum_turns.is_due(self.num_steps))
            except UnreachedError as error:
                if not may_miss:
                    raise
                estimate = self._untrusted(error)
            if self.probe.spectrum_error is not None:
                raise self.probe.spectrum_error
            if not self.act(estimate, estimate.loss, started, self.probe.spectrum_cost):
                break
        return estimate if self.last_estimate is None else self.last_estimate

    def state_dict(self) -> dict[str, Any]:
        """Counters, and what the next probe starts from."""
        return {
            "num_steps": self.num_steps,
            "cost": self.cost,
            "turns": self.turns.state_dict(),
            "schedule": self.watch.limits.state_dict(),
            "probe": self.probe.memory.state_dict(),
            "spectrum": self.spectrum_turns.state_dict(),
            "informing": self.probe.informing.state_dict(),
            "agreement": self.agreement.state_dict(),
            "loader": self.source.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.start_afresh()
        self.num_steps, self.cost = state["num_steps"], state["cost"]
        is_same_policy = self.controller.policy_state is not None
        self.turns.load_state_dict(state["turns"], self.num_steps, is_same_policy=is_same_policy)
        self.watch.limits.load_state_dict(state["schedule"])
        self.probe.memory.load_state_dict(state["probe"])
        self.spectrum_turns.load_state_dict(state["spectrum"])
        if state["informing"] is not None:
            self.probe.informing.load_state_dict(state["informing"])
        self.source.load_state_dict(state["loader"])
        self.agreement.load_state_dict(state["agreement"])

    # --- measuring and acting -----------------------------------------------------------------------------------

    def _try_to_measure(self, batches: list[Batch]) -> CurvatureEstimate:
        try:
            return self._measure(batches, spectrum=self.spectrum_turns.is_due(self.num_steps))
        except Exception as error:
            return self.failed(error, is_first=not self.turns.has_begun)

    def failed(self, error: Exception, *, is_first: bool) -> CurvatureEstimate:
        """A probe never stops training: whatever it raises becomes the reason of an estimate without trust.

        What is wrong with the settings, or with a loss given to probe, is an error at the first probe, on all ranks.
        """
        is_callers = not self.source.is_training_batch or is_of_dcao(error)
        is_mistake = is_callers and isinstance(error, TypeError | ValueError)
        if is_first and not on_any_rank(not is_mistake, self.probe.model.look()[1]):
            raise error
        return self._untrusted(error)

    def _untrusted(self, error: Exception) -> CurvatureEstimate:
        self.failure = Failure.of(error, is_again=self.source.is_training_batch)
        reason = f"the probe failed: {type(error).__name__}: {error}"
        measure, cost = self.probe.settings.measure, self.turns.last_cost + self.probe.num_checks
        return CurvatureEstimate(step=self.num_steps, measure=measure, cost=cost, reason=reason)

    def _measure(self, batches: list[Batch], *, spectrum: bool) -> CurvatureEstimate:
        with self.controller.probed_lrs():
            estimate = self.probe.measure(batches, step=self.num_steps, spectrum=spectrum)
        if spectrum:
            self.spectrum_turns.take(self.num_steps)
            if self.probe.spectrum_error is None:
                self.last_spectrum = estimate.at_share(self.controller.hyperparameters().shape.share)
        return estimate

    def act(self, estimate: CurvatureEstimate, loss: float | None, started: float, spectrum_cost: float = 0.0) -> bool:
        """Ask the policy, carry out its answer, record both; returns whether it cut lr and wants another probe."""
        before, trained = self.controller.hyperparameters(), self.controller.training_hyperparameters()
        observation = Observation(
            step=self.num_steps,
            s=None if estimate.s is None or math.isnan(estimate.s) else estimate.s,
            trust=estimate.trust,
            hyperparameters=before,
            relative_step=estimate.relative_step,
            agreement=self.agreement.mean_with(estimate.agreement),
        )
        decision = self.controller.decide(observation)
        failure, self.failure = self.failure, None
        carried_out = self.controller.apply(decision)
        self.cost += estimate.cost
        checks, self.probe.num_checks = self.probe.num_checks, 0
        # Schedules see neither a spectrum that came along nor the first probe's check.
        self.turns.take(self.num_steps, spent=estimate.cost - spectrum_cost - checks)
        wanted, after = decision.hyperparameters.lr, self.controller.hyperparameters().lr
        is_held = wanted != before.lr == after  # by a scheduler: probing faster would gain nothing
        again = self.turns.ask_for_more(decision.probe_again and not is_held)
        self.at_top, self.last_decision = estimate, carried_out
        self.last_estimate = estimate = estimate.at_share(before.shape.share)
        self.record(carried_out, trained, loss, started, estimate=estimate, observation=observation)
        if not self.probe.is_held:  # of which the caller has been told
            self.watch.note_probe(estimate, observation, decision, failure)
        return again and wanted < before.lr

    def record(
        self, decision: Decision, before: Hyperparameters, loss: float | None, started: float, **seen: Any
    ) -> None:
        """Write down what has happened before the coming step."""
        if loss is None and "estimate" in seen:
            loss = seen["estimate"].loss
        seen |= {"step": self.num_steps, "total_cost": self.cost, "seconds": time.perf_counter() - started}
        after = self.controller.training_hyperparameters()
        self.recording.record(decision=decision, before=before, after=after, loss=loss, **seen)
