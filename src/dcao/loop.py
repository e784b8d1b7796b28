"""When to probe, on what, and what follows: from the training batch to a decision that is carried out and recorded."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dcao.controller import Controller
from dcao.isolation import RngState, capture_rng, leave_no_trace
from dcao.operators.base import LossFn
from dcao.policies.base import Decision, Hyperparameters, Observation, reason_to_hold
from dcao.probing.batch import Closure, ProbeBatch, gradients_left
from dcao.probing.estimate import CurvatureEstimate
from dcao.probing.loader import ProbeLoader
from dcao.probing.probe import CurvatureProbe
from dcao.schedules import Timing
from dcao.telemetry import Recorder, StepRecord

SETTLING_STEPS = 200
"""For so long at most, every step is probed while the lr rule is at its clip."""

ALARM = 10.0
"""s, five times the edge, at which the next step is probed too: an outlier is one probe long, a blow-up is not."""

MAX_PROBES_BEFORE_START = 60
"""Probes before the first update: 0.8**60 takes an lr of 10 below 2e-5."""


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """The training batch between its backward pass and the update.

    Attributes:
        loss: As the loss function or closure returned it, detached; None if unknown.
        rng_state: Random streams before it was evaluated, where a probe is due.
        loss_fn: Evaluates it again.
        closure: The same by torch's contract.
    """

    loss: Any
    rng_state: RngState | None
    loss_fn: LossFn | None = None
    closure: Closure | None = None

    def loss_value(self) -> float | None:
        """The loss as a number."""
        return None if self.loss is None else float(self.loss)

    def as_probe_batch(self, params: list[Tensor]) -> ProbeBatch:
        """The batch with the gradient that backward has left in ``.grad``."""
        return ProbeBatch(
            loss_fn=self.loss_fn,
            closure=self.closure,
            rng_state=self.rng_state if self.rng_state is not None else capture_rng(params),
            gradient=gradients_left(params),
            loss=self.loss_value(),
        )


class ProbeLoop:
    """Probes when due, asks the controller, records; counts steps and cost.

    Attributes:
        num_steps: Optimizer steps taken.
        cost: Gradient evaluations that probes have cost.
        last_estimate: What the last probe measured.
        last_decision: What was made of it.
    """

    def __init__(
        self,
        probe: CurvatureProbe,
        controller: Controller,
        timing: Timing,
        *,
        probe_batch: LossFn | ProbeLoader | None,
        recorder: Recorder | None,
    ) -> None:
        self.probe, self.controller, self.timing = probe, controller, timing
        self.probe_batch, self.recorder = probe_batch, recorder
        self.start_afresh()

    def start_afresh(self) -> None:
        """As before the first step."""
        self.probe.start_afresh()
        self.last_estimate: CurvatureEstimate | None = None
        self.last_decision: Decision | None = None
        self.num_steps = 0
        self.cost = 0.0
        self._scheduled_cost = 0.0  # the same without spectra, which no budget pays for
        self._last_cost = 1.0  # of the default measure; the truth is known after the first probe
        self._took_spectrum = False
        self._clipped = True
        self._alarmed = False
        self._probed_at = -1

    def is_due(self) -> bool:
        """Whether a probe is due before the coming step."""
        return self._probed_at != self.num_steps and self._is_due_at(self.num_steps)

    def finish_step(self, *, taken: bool) -> None:
        """Count a step. Its gradient, still there, is kept if the probe before the next step will want it."""
        self.num_steps += 1
        self.probe.forget_gradient()
        if taken and self.probe_batch is None and self._is_due_at(self.num_steps):
            self.probe.remember_gradient()

    def probe_if_due(self, training: TrainingBatch | None) -> None:
        """Probe before an update; before the first one, until the lr rule no longer cuts."""
        if not self.is_due():
            self.controller.move_on(self.num_steps)
            return
        loss = None if training is None else training.loss_value()
        started = time.perf_counter()
        try:
            batches = self._batches(training)
        except Exception as error:
            self._act(self._failed(error), loss=loss, started=started)
            return
        if batches is None:
            self._require_a_probe()
            self.controller.move_on(self.num_steps)
            return
        self._probe_until_settled(lambda: self._try_to_measure(batches), loss)

    def probe_now(self, loss_fn: LossFn, *, spectrum: bool) -> CurvatureEstimate:
        """Probe a loss of the caller's; what it raises passes through."""
        batch = ProbeBatch(loss_fn=loss_fn, rng_state=capture_rng(self.probe.params()))
        return self._probe_until_settled(lambda: self._measure([batch], spectrum=spectrum), loss=None)

    def report_blow_up(self, loss: float | None) -> None:
        """Tell the policy that a run has blown up: as a probe that saw an infinite s."""
        estimate = CurvatureEstimate(
            step=self.num_steps,
            measure=self.probe.settings.measure,
            loss=loss,
            s=math.inf,
            trust=1.0,
            reason="the run blew up and has gone back",
        )
        self._act(estimate, loss=loss, started=time.perf_counter())

    def record_skip(self, before: Hyperparameters, reason: str, loss: float | None) -> None:
        """Record a step that the guard has skipped."""
        decision = Decision(hyperparameters=self.controller.hyperparameters(), reason=reason)
        self._record(None, None, decision, before, loss, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Counters, and what the next probe starts from."""
        loader = self.probe_batch
        return {
            "num_steps": self.num_steps,
            "cost": self.cost,
            "scheduled_cost": self._scheduled_cost,
            "alarmed": self._alarmed,
            "last_cost": self._last_cost,
            "clipped": self._clipped,
            "probed_at": self._probed_at,
            "probe": self.probe.memory.state_dict(),
            "loader": loader.state_dict() if isinstance(loader, ProbeLoader) else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.start_afresh()
        self.num_steps, self.cost, self._last_cost = state["num_steps"], state["cost"], state["last_cost"]
        self._clipped, self._probed_at = state["clipped"], state["probed_at"]
        self._scheduled_cost, self._alarmed = state["scheduled_cost"], state["alarmed"]
        self.probe.memory.load_state_dict(state["probe"])
        if isinstance(self.probe_batch, ProbeLoader) and state["loader"] is not None:
            self.probe_batch.load_state_dict(state["loader"])

    # --- helpers ----------------------------------------------------------------------------------------------

    def _is_due_at(self, step: int) -> bool:
        settling = self.timing.settle and (self._alarmed or (self._clipped and step < SETTLING_STEPS))
        schedule = self.timing.schedule
        scheduled = schedule is not None and schedule(step, self._scheduled_cost + self._last_cost)
        return settling or scheduled or self._spectrum_is_due_at(step)

    def _spectrum_is_due_at(self, step: int) -> bool:
        """Once a step: the probes before the first update, which search for an lr, need it once."""
        return self.timing.spectrum is not None and self._probed_at != step and self.timing.spectrum(step, 0.0)

    def _probe_until_settled(self, measure: Callable[[], CurvatureEstimate], loss: float | None) -> CurvatureEstimate:
        """One probe; before the first update, as many as it takes until the lr rule no longer cuts."""
        first = self.num_steps == 0 and self.timing.settle
        for _ in range(MAX_PROBES_BEFORE_START if first else 1):
            started = time.perf_counter()
            before = self.controller.hyperparameters().lr
            estimate = measure()
            decision = self._act(estimate, loss=estimate.loss if loss is None else loss, started=started)
            if not (decision.clipped and decision.hyperparameters.lr < before):
                break
        return estimate

    def _batches(self, training: TrainingBatch | None) -> list[ProbeBatch] | None:
        params = self.probe.params()
        if isinstance(self.probe_batch, ProbeLoader):
            rng_state = capture_rng(params)
            with leave_no_trace(params, modules=self.probe.modules()):
                return self.probe_batch.draw(rng_state)
        if self.probe_batch is not None:
            return [ProbeBatch(loss_fn=self.probe_batch, rng_state=capture_rng(params))]
        return None if training is None else [training.as_probe_batch(params)]

    def _require_a_probe(self) -> None:
        """Nothing to probe: an error where the caller set a schedule, or where the run would never probe at all."""
        if self.timing.demanded or self._probed_at < 0:
            raise ValueError(
                f"a probe is due at step {self.num_steps} and there is nothing to probe: call "
                "optimizer.minimize(loss_fn), step(closure), or optimizer.probe(loss_fn) before step(); "
                "or give probe_batch="
            )

    def _try_to_measure(self, batches: list[ProbeBatch]) -> CurvatureEstimate:
        try:
            return self._measure(batches, spectrum=self._spectrum_is_due_at(self.num_steps))
        except Exception as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> CurvatureEstimate:
        """A probe never stops training: whatever it raises becomes the reason of an estimate without trust.

        What is wrong with the caller's loss is still an error at the first probe, before anything is lost.
        """
        if self._probed_at < 0 and isinstance(error, (TypeError, ValueError)):
            raise error
        reason = f"the probe failed: {type(error).__name__}: {error}"
        measure = self.probe.settings.measure
        return CurvatureEstimate(step=self.num_steps, measure=measure, cost=self._last_cost, reason=reason)

    def _measure(self, batches: list[ProbeBatch], *, spectrum: bool) -> CurvatureEstimate:
        self._took_spectrum = spectrum
        with self.controller.training_lrs():
            return self.probe.measure(batches, step=self.num_steps, spectrum=spectrum)

    def _act(self, estimate: CurvatureEstimate, *, loss: float | None, started: float) -> Decision:
        """Ask the policy, carry out its answer, record both."""
        before = self.controller.hyperparameters()
        s = None if estimate.s is None or estimate.s != estimate.s else estimate.s
        observation = Observation(
            step=self.num_steps,
            s=s,
            trust=estimate.trust,
            hyperparameters=before,
            relative_step=estimate.relative_step,
        )
        decision = self.controller.decide(observation)
        carried_out = self.controller.apply(decision)
        self.cost += estimate.cost
        if estimate.cost and not self._took_spectrum:  # a blow-up is reported for nothing
            self._last_cost = estimate.cost
        self._scheduled_cost += min(self._last_cost, estimate.cost)  # of a spectrum, what a probe alone would cost
        self._probed_at = self.num_steps
        if reason_to_hold(observation) is None:  # a probe that says nothing settles nothing
            moved = self.controller.hyperparameters().lr != before.lr  # not at a bound, nor held by a scheduler
            self._clipped = decision.clipped and moved
            self._alarmed = observation.s is not None and observation.s > ALARM
        self.last_estimate, self.last_decision = estimate, carried_out
        self._record(estimate, observation, carried_out, before, loss, time.perf_counter() - started)
        return decision

    def _record(
        self,
        estimate: CurvatureEstimate | None,
        observation: Observation | None,
        decision: Decision,
        before: Hyperparameters,
        loss: float | None,
        seconds: float,
    ) -> None:
        if self.recorder is None:
            return
        record = StepRecord(
            step=self.num_steps,
            loss=loss,
            estimate=estimate,
            observation=observation,
            decision=decision,
            before=before,
            after=self.controller.hyperparameters(),
            cost=0.0 if estimate is None else estimate.cost,
            total_cost=self.cost,
            seconds=seconds,
        )
        try:
            self.recorder.record(record)
        except OSError as error:  # a full disk must not stop the training
            warnings.warn(f"the recorder failed, and this record is lost: {error}", RuntimeWarning, stacklevel=2)
