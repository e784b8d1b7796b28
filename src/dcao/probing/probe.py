"""Probe: from batches and a live optimizer to a CurvatureEstimate, leaving no trace on either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from dcao.blocks import Vector, blocks, spans
from dcao.gradients.presence import any_is_not_zero
from dcao.isolation import RngState, capture_rng, without_autocast
from dcao.models import Model
from dcao.operators.differentiation import Differentiation
from dcao.probing.agreement import agreement
from dcao.probing.along_step import read_along_step
from dcao.probing.batch import Batch, gradients_left
from dcao.probing.eigenvalues import read_hessian, read_preconditioned
from dcao.probing.estimate import ALONG_STEP, CurvatureEstimate, Reading
from dcao.probing.memory import ProbeMemory
from dcao.probing.probed_loss import ProbedLoss
from dcao.probing.ranks import evaluating_replicas, on_any_rank, with_buffers_sent
from dcao.probing.repeatability import LATER_REASON, NEVER_REASON, Repeats, check, rounding
from dcao.probing.settings import ProbeSettings, require_measurable
from dcao.state.start import Moving, Start, Surroundings, no_surroundings
from dcao.telling.notices import warn
from dcao.updates.model import OptimizerModel
from dcao.updates.registry import refuse_maximize
from dcao.updates.upcoming_step import UpcomingStep
from dcao.vectors import params_of, require_initialized, unique

UNREACHABLE = (
    "DCAO could not look through the objects that the loss uses ({error}): probes put back random streams and the "
    "buffers of the model, but no other state that the loss changes. Fix: keep the object that raises this out of the "
    "loss"
)


class Probe:
    """Measures the curvature of a loss at the present parameters of an optimizer.

    Args:
        optimizer: The base optimizer, live.
        model: Its model, whose state an evaluation must not change.
        record: Description of the optimizer's class; None for an unknown class.
        settings: What is measured, and how.
        seed: Seed of the random start vectors.

    Attributes:
        moving: State that losses of this run were seen to change.
        surroundings: Says what of a trainer the losses change beside what they are seen to reach.
        memory: What one probe that decides leaves for the next.
        informing: The same for spectra that only inform, so that nothing which decides depends on them.
        spectrum_cost: Gradient evaluations of the last probe that went into a spectrum which came along.
        spectrum_error: What kept that spectrum from being measured; None if nothing did.
        num_checks: Evaluations that the first probe alone makes, to check whether the loss repeats and to find the
            natural length; the loop counts them and sets this back.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: Model,
        record: OptimizerModel | None,
        settings: ProbeSettings,
        *,
        seed: int = 0,
    ) -> None:
        self.optimizer, self.model, self.record = optimizer, model, record
        self.settings, self.seed = settings, seed
        self.moving = Moving()
        self.surroundings: Surroundings = no_surroundings
        self.num_checks = 0
        self.differentiation = Differentiation()
        self.params()  # refuses groups that do not exist at once
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget what earlier probes have left."""
        self.memory, self.informing = ProbeMemory.fresh(self.seed), ProbeMemory.fresh(self.seed)
        self._start_probe()

    def _start_probe(self) -> None:
        self.spectrum_cost = 0.0
        self.spectrum_error: Exception | None = None

    def params(self) -> list[Tensor]:
        """The parameters that are probed: those of the chosen groups that require grad; none in a frozen phase."""
        groups, param_groups = self.settings.groups, self.optimizer.param_groups
        if groups is not None and not all(0 <= index < len(param_groups) for index in groups):
            raise ValueError(f"groups must be in 0..{len(param_groups) - 1}, got {list(groups)}")
        chosen = range(len(param_groups)) if groups is None else groups
        return unique(p for index in chosen for p in param_groups[index]["params"] if p.requires_grad)

    @property
    def is_held(self) -> bool:
        """Whether the loss was found not to repeat, so that it is not evaluated again."""
        return self.memory.repeats is Repeats.NEVER

    def has_no_direction(self) -> bool:
        """Whether a measure along the step would say nothing now, because all gradients in ``.grad`` are zero."""
        return self.settings.measure in ALONG_STEP and not any_is_not_zero(self.params())

    def start(self, loss_fn: object) -> RngState:
        """What evaluations of a loss start from: the random streams as they are now, and all state that it reaches."""
        require_measurable(params := params_of(self.optimizer), self.settings)
        streams = capture_rng(params)
        if self.is_held:
            return streams
        modules = self.model.look()[0]
        try:
            with with_buffers_sent(modules):  # also if looking for more fails on this rank alone
                reached, places = self.surroundings()
                start = Start([loss_fn, *reached], params, modules, self.moving, places)
        except Exception as error:  # of objects of the user's, which may do anything when they are looked at
            if not self.moving.has_failed:
                warn(UNREACHABLE.format(error=f"{type(error).__name__}: {error}"))
            self.moving.has_failed = True
            return streams
        return replace(streams, start=start)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "surroundings": no_surroundings}  # a copy of the optimizer must not copy a trainer

    def measure(self, batches: Sequence[Batch], *, step: int, spectrum: bool) -> CurvatureEstimate:
        """What ``settings.measure`` needs; then, if ``spectrum``, the top of the Hessian's spectrum as well.

        The first part, and all that is decided by it, is the same whether or not there is a second one.
        """
        self._start_probe()
        params = self.params()
        if reason := self._why_not(params):
            return self._nothing(step, reason)
        self.memory.belong_to(params)
        tolerance = rounding(params)  # here, under the caller's autocast
        with self._looking_at(batches, params) as loss:
            if not self._repeats(loss, tolerance):
                cost = loss.cost + loss.num_checks
                return replace(self._nothing(step, NEVER_REASON), loss=loss.mean_value(), cost=cost)
            self._remember_probed(loss)
            deciding = self._readings(loss, self.memory, spectrum=False)
            self.num_checks += int(loss.search_cost)
            self.memory.why_not_lifted = loss.why_not_lifted
            past, along = self.memory.past_gradient, self._along(loss, deciding) if spectrum else {}
            return self._estimate(loss, deciding, along, step, past)

    def inform(self, batches: Sequence[Batch], *, step: int) -> CurvatureEstimate:
        """A spectrum, with s by ``settings.measure``, which leaves nothing for probes that decide."""
        self._start_probe()
        params = self.params()
        if reason := self._why_not(params):
            return self._nothing(step, reason)
        self.informing.belong_to(params)
        with self._looking_at(batches, params) as loss:
            if self.memory.repeats is Repeats.LATER:
                loss.compare_own_evaluations()
            past = self.informing.past_gradient
            return self._estimate(loss, self._readings(loss, self.informing, spectrum=True), {}, step, past)

    def _why_not(self, params: Sequence[Tensor]) -> str:
        """Why nothing can be measured; empty if something can."""
        refuse_maximize(self.optimizer)  # a group may have been added
        require_initialized(params)
        return NEVER_REASON if self.is_held else "" if params else "no parameter requires grad"

    @contextmanager
    def _looking_at(self, batches: Sequence[Batch], params: list[Tensor]) -> Iterator[ProbedLoss]:
        modules, ranks = self.model.look()
        # The loss runs under the caller's autocast, our arithmetic never does.
        batches = [
            replace(
                batch.keeping_autocast(), ranks=ranks, differentiation=self.differentiation, scaling=self.memory.scaling
            )
            for batch in batches
        ]
        with (
            without_autocast(),
            evaluating_replicas(modules),
            ProbedLoss(
                UpcomingStep(self.optimizer, self.record, params),
                modules,
                batches,
                self.settings,
                why_not_lifted=self.memory.why_not_lifted,
            ) as loss,
        ):
            yield loss

    def _nothing(self, step: int, reason: str) -> CurvatureEstimate:
        return CurvatureEstimate(step=step, measure=self.settings.measure, reason=reason)

    def _repeats(self, loss: ProbedLoss, tolerance: float) -> bool:
        """Whether evaluations of the loss can be compared; checked once, at the first probe."""
        starts = [batch.rng_state.start for batch in loss.batches if batch.is_training and batch.rng_state is not None]
        is_complete = all(start is None or start.is_complete for start in starts)
        is_complete = not on_any_rank(not is_complete, loss.batches[0].ranks)
        if self.memory.repeats is Repeats.UNKNOWN and is_complete:
            self.memory.repeats = check(loss, tolerance)
            self.num_checks += loss.num_checks
        if self.memory.repeats is Repeats.LATER or not is_complete:
            loss.compare_own_evaluations()
        return not self.is_held

    def _readings(self, loss: ProbedLoss, memory: ProbeMemory, *, spectrum: bool) -> dict[str, Reading]:
        """One reading for each kind of measure that is due, in the order in which they are taken."""
        measure = self.settings.measure
        readings: dict[str, Reading] = {}
        if measure in ALONG_STEP:
            readings[measure] = read_along_step(loss, memory)
        if spectrum or measure == "hessian":
            readings["hessian"] = read_hessian(loss, memory, spectrum=spectrum)
        if measure == "preconditioned" or (spectrum and loss.step.has_record):  # a spectrum tells all that it can
            readings["preconditioned"] = read_preconditioned(loss, memory)
        return readings

    def _along(self, loss: ProbedLoss, deciding: dict[str, Reading]) -> dict[str, Reading]:
        """The readings of a spectrum that comes along with a probe, except what that probe has measured as well."""
        spent, readings = loss.cost, dict[str, Reading]()
        try:
            if "hessian" not in deciding or self.settings.num_lanczos_steps is None:
                readings["hessian"] = read_hessian(loss, self.informing, spectrum=True)
            if "preconditioned" not in deciding and loss.step.has_record:
                readings["preconditioned"] = read_preconditioned(loss, self.informing)
        except Exception as error:  # of what only informs: the caller says what becomes of it
            self.spectrum_error = error
        self.spectrum_cost = loss.cost - spent
        return readings

    def _estimate(
        self,
        loss: ProbedLoss,
        deciding: dict[str, Reading],
        along: dict[str, Reading],
        step: int,
        past_gradient: Vector | None,
    ) -> CurvatureEstimate:
        measure = self.settings.measure
        readings = {**along, **deciding}
        stability = {name: s for reading in readings.values() for name, s in reading.stability.items()}
        # Of two Lanczos runs the Hessian's status is reported, and of two of the Hessian the spectrum's.
        by_rank = [*reversed(deciding.values()), *reversed(along.values())]
        fields = {name: value for reading in by_rank for name, value in reading.fields.items()}
        reasons = [readings[measure].reason, loss.how_it_steps, loss.precision_note, loss.why_not_exact]
        if self.memory.repeats is Repeats.LATER:
            reasons.append(LATER_REASON)
        if measure in ALONG_STEP and "hessian" in readings:
            reasons.append(readings["hessian"].reason)
        elif measure not in ALONG_STEP:
            reasons.reverse()
            reasons += [along["hessian"].reason] if "hessian" in along else []
        if self.spectrum_error is not None:
            reasons.append(f"the spectrum failed: {type(self.spectrum_error).__name__}: {self.spectrum_error}")
        return CurvatureEstimate(
            step=step,
            measure=measure,
            loss=loss.mean_value(),
            s=stability.get(measure),
            stability=stability,
            trust=readings[measure].trust,
            num_matvecs=loss.num_matvecs,
            cost=loss.cost + loss.num_checks,
            hvp=loss.hvp,
            reason="; ".join(dict.fromkeys(reason for reason in reasons if reason)),
            agreement=agreement(loss.batches, past_gradient, dtype=loss.step.dtype),
            **fields,
        )

    def _remember_probed(self, loss: ProbedLoss) -> None:
        """Keep the gradient of a batch that the coming step is taken on, to be compared with what then steps."""
        if loss.batches[0].is_coming and self.settings.measure in ALONG_STEP:
            self.memory.probed = copied(loss.batches[0].gradient or [])

    def forget_gradient(self) -> None:
        """Forget the gradients of the last batch, and of the one that was probed for the step on it."""
        self.memory.past_gradient = self.memory.probed = self.informing.past_gradient = None

    def remember_gradient(self, *, decides: bool) -> None:
        """Keep the training batch's gradient, which is in ``.grad``: to the next batch it is an independent one."""
        params = self.params()
        if params and (decides or self.settings.measure in ALONG_STEP):
            memory = self.memory if decides else self.informing
            memory.belong_to(params)
            memory.past_gradient = copied(gradients_left(params))

    def last_gradient(self) -> Vector | None:
        """The training batch's gradient: as remembered for a probe, or else ``.grad``; None in a frozen phase."""
        params = self.params()
        if self.memory.past_gradient is not None or not params:
            return self.memory.past_gradient
        return copied(gradients_left(params))


def copied(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Gradients in blocks that stay as they are when the next backward pass writes to ``.grad``."""
    kept = blocks(gradients)
    spanned = zip(spans(gradients), kept, strict=True)
    return [block if span.stop > span.start + 1 else block.clone() for span, block in spanned]
