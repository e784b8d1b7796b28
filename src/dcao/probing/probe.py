"""Probe: from batches and a live optimizer to a CurvatureEstimate, leaving no trace on either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from torch import Tensor
from torch.optim import Optimizer

from dcao.isolation import without_autocast
from dcao.models import Model
from dcao.probing.along_step import read_along_step
from dcao.probing.batch import Batch, gradients_left
from dcao.probing.eigenvalues import read_hessian, read_preconditioned
from dcao.probing.estimate import CurvatureEstimate, Reading
from dcao.probing.memory import ProbeMemory
from dcao.probing.probed_loss import ProbedLoss
from dcao.probing.ranks import without_gradient_sync
from dcao.probing.settings import ProbeSettings
from dcao.updates.model import OptimizerModel
from dcao.updates.upcoming_step import UpcomingStep
from dcao.vectors import flatten, trainable, vector_dtype


class Probe:
    """Measures the curvature of a loss at the present parameters of an optimizer.

    Args:
        optimizer: The base optimizer, live.
        model: Its model, whose state an evaluation must not change.
        record: Description of the optimizer's class; None for an unknown class.
        settings: What is measured, and how.
        seed: Seed of the random start vectors.

    Attributes:
        memory: What one probe that decides leaves for the next.
        informing: The same for spectra that only inform, so that nothing which decides depends on them.
        spectrum_cost: Gradient evaluations of the last probe that went into a spectrum which came along.
        spectrum_error: What kept that spectrum from being measured; None if nothing did.
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
        self.params()  # refuses a model without trainable parameters at once
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget what earlier probes have left."""
        self.memory, self.informing = ProbeMemory.fresh(self.seed), ProbeMemory.fresh(self.seed)
        self._start_probe()

    def _start_probe(self) -> None:
        self.spectrum_cost = 0.0
        self.spectrum_error: Exception | None = None

    def params(self) -> list[Tensor]:
        """The parameters that are probed: those of the chosen groups that require grad."""
        groups, param_groups = self.settings.groups, self.optimizer.param_groups
        if groups is not None and not all(0 <= index < len(param_groups) for index in groups):
            raise ValueError(f"groups must be in 0..{len(param_groups) - 1}, got {list(groups)}")
        chosen = range(len(param_groups)) if groups is None else groups
        return trainable(p for index in chosen for p in param_groups[index]["params"])

    def measure(self, batches: Sequence[Batch], *, step: int, spectrum: bool) -> CurvatureEstimate:
        """What ``settings.measure`` needs; then, if ``spectrum``, the top of the Hessian's spectrum as well.

        The first part, and all that is decided by it, is the same whether or not there is a second one.
        """
        self._start_probe()
        with self._looking_at(batches) as loss:
            deciding = self._readings(loss, self.memory, spectrum=False)
            return self._estimate(loss, deciding, self._along(loss, deciding) if spectrum else {}, step)

    def inform(self, batches: Sequence[Batch], *, step: int) -> CurvatureEstimate:
        """A spectrum, with s by ``settings.measure``, which leaves nothing for probes that decide."""
        with self._looking_at(batches) as loss:
            return self._estimate(loss, self._readings(loss, self.informing, spectrum=True), {}, step)

    @contextmanager
    def _looking_at(self, batches: Sequence[Batch]) -> Iterator[ProbedLoss]:
        (modules, group), params = self.model.look(), self.params()
        # The loss runs under the caller's autocast, our arithmetic never does.
        batches = [replace(batch.keeping_autocast(), group=group) for batch in batches]
        with (
            without_autocast(),
            without_gradient_sync(modules) if group is not None else nullcontext(),
            ProbedLoss(UpcomingStep(self.optimizer, self.record, params), modules, batches, self.settings) as loss,
        ):
            yield loss

    def _readings(self, loss: ProbedLoss, memory: ProbeMemory, *, spectrum: bool) -> dict[str, Reading]:
        """One reading for each kind of measure that is due, in the order in which they are taken."""
        measure = self.settings.measure
        readings: dict[str, Reading] = {}
        if measure in ("load", "batch"):
            readings[measure] = read_along_step(loss, memory.past_gradient)
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
        self, loss: ProbedLoss, deciding: dict[str, Reading], along: dict[str, Reading], step: int
    ) -> CurvatureEstimate:
        measure = self.settings.measure
        readings = {**along, **deciding}
        stability = {name: s for reading in readings.values() for name, s in reading.stability.items()}
        # Of two Lanczos runs the Hessian's status is reported, and of two of the Hessian the spectrum's.
        by_rank = [*reversed(deciding.values()), *reversed(along.values())]
        fields = {name: value for reading in by_rank for name, value in reading.fields.items()}
        reasons = [readings[measure].reason, loss.why_not_exact]
        if measure in ("load", "batch") and "hessian" in readings:
            reasons.append(readings["hessian"].reason)
        elif measure in ("hessian", "preconditioned"):
            reasons.reverse()
            reasons += [along["hessian"].reason] if "hessian" in along else []
        if self.spectrum_error is not None:
            reasons.append(f"the spectrum failed: {type(self.spectrum_error).__name__}: {self.spectrum_error}")
        return CurvatureEstimate(
            step=step,
            measure=measure,
            loss=loss.value,
            s=stability.get(measure),
            stability=stability,
            trust=readings[measure].trust,
            num_matvecs=loss.num_matvecs,
            cost=loss.cost,
            hvp=loss.hvp,
            reason="; ".join(dict.fromkeys(reason for reason in reasons if reason)),
            **fields,
        )

    def forget_gradient(self) -> None:
        """Forget the gradient of the batch before the last one."""
        self.memory.past_gradient = self.informing.past_gradient = None

    def remember_gradient(self, *, decides: bool) -> None:
        """Keep the training batch's gradient, which is in ``.grad``: to the next batch it is an independent one."""
        if self.settings.measure in ("load", "batch"):
            params = self.params()
            memory = self.memory if decides else self.informing
            memory.past_gradient = flatten(gradients_left(params), dtype=vector_dtype(params))
