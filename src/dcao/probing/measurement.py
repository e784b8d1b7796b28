"""One probe's work: every measure asked for, from gradients that are evaluated once and shared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao.operators.base import LinearOperator
from dcao.operators.batched import BatchedOperator
from dcao.operators.finite_difference import FiniteDifferenceOperator, default_step_length, joint_norm
from dcao.operators.preconditioned import PreconditionedOperator
from dcao.operators.shifted import DiagonalShift
from dcao.probing.along_step import Directional, StepVectors, directional
from dcao.probing.batch import HessianLike, ProbeBatch
from dcao.probing.data_parallel import MeanOverRanksOperator, data_parallel_group
from dcao.probing.estimate import CurvatureEstimate, ritz_trust
from dcao.probing.settings import ProbeMemory, ProbeSettings
from dcao.spectra.lanczos import LanczosResult, LanczosStatus, lanczos
from dcao.updates.geometry import StepGeometry
from dcao.updates.stability import load_number, stability_number
from dcao.vectors import flatten

SPECTRUM_TOLERANCE = 0.01
"""Relative residual of each of the k pairs of a spectrum; values are then good to about its square."""

TRACKING_TOLERANCE = 0.05
"""The same where one eigenvalue is followed from probe to probe: 2 to 3 products a probe, at most 3 % off the truth in
three training runs (benchmarks/probe_cost.py); with 10 % it was 24 % off once."""


class Measurement:
    """The measures of one probe. A context: leaving it frees the graphs."""

    def __init__(
        self,
        settings: ProbeSettings,
        memory: ProbeMemory,
        optimizer: Optimizer,
        params: Sequence[Tensor],
        modules: Sequence[nn.Module],
        batches: Sequence[ProbeBatch],
    ) -> None:
        self.settings, self.memory, self.params, self.modules = settings, memory, params, modules
        self.geometry = StepGeometry(optimizer, params)
        self.evaluations = float(sum(batch.gradient is None for batch in batches))
        self.group = data_parallel_group(modules)
        self.batches = [replace(batch, group=self.group).with_gradient(params, modules) for batch in batches]
        self.operators: list[HessianLike] = []
        self._operator_of: dict[int, LinearOperator] = {}  # one graph a batch, whatever is asked of it
        self.num_matvecs = 0

    def __enter__(self) -> Measurement:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for operator in self.operators:
            if not isinstance(operator, FiniteDifferenceOperator):
                operator.close()

    def estimate(self, step: int, *, spectrum: bool) -> CurvatureEstimate:
        """Everything that is asked for, as one record."""
        measure = self.settings.measure
        along = self._directional() if measure in ("load", "batch") else None
        hessian = self._hessian(spectrum=spectrum) if spectrum or measure == "hessian" else None
        smallest = self._smallest() if self.settings.smallest and hessian is not None else None
        adaptive = spectrum and self.geometry.has_model  # a spectrum tells everything that can be told
        preconditioned = self._preconditioned() if measure == "preconditioned" or adaptive else None
        stability = self._stability(along, hessian, preconditioned)
        deciding = preconditioned if measure == "preconditioned" else hessian
        reported = hessian if hessian is not None else preconditioned
        step_size = self.geometry.dynamics.step_size if along is not None else 0.0
        return CurvatureEstimate(
            step=step,
            measure=measure,
            loss=self._loss(),
            s=stability.get(measure),
            stability=stability,
            trust=along.trust if along is not None else ritz_trust(deciding),
            sharpness=_leading(hessian),
            ritz_values=tuple(hessian.ritz_values.tolist()) if hessian is not None else (),
            residuals=tuple(hessian.residuals.tolist()) if hessian is not None else (),
            smallest=_leading(smallest),
            preconditioned_sharpness=_leading(preconditioned),
            batch=along.total / step_size if along is not None and step_size > 0.0 else None,
            load_signal=along.signal if along is not None else None,
            load_noise=along.noise if along is not None else None,
            relative_step=self._relative_step(along),
            status=reported.status if reported is not None else None,
            num_matvecs=self.num_matvecs,
            cost=self.evaluations + sum(operator.gradient_evaluations for operator in self.operators),
            hvp=self.operators[-1].kind if self.operators else "",
            reason=self._reason(along, deciding),
        )

    # --- the measures -----------------------------------------------------------------------------------------

    def _directional(self) -> Directional:
        self.num_matvecs += len(self.batches)
        return directional([self._step_vectors(batch) for batch in self.batches])

    def _hessian(self, *, spectrum: bool) -> LanczosResult:
        """The k largest pairs for a spectrum; to follow s, the largest alone."""
        everything = spectrum or self.settings.num_lanczos_steps is not None
        k, tolerance = (self.settings.k, SPECTRUM_TOLERANCE) if everything else (1, TRACKING_TOLERANCE)
        return self._lanczos("hessian", self._hessian_operator(), k=k, tolerance=tolerance)

    def _smallest(self) -> LanczosResult:
        return self._lanczos("smallest", self._hessian_operator(), k=1, tolerance=TRACKING_TOLERANCE)

    def _preconditioned(self) -> LanczosResult:
        """Of ``P^-1/2 (H + l2_decay I) P^-1/2``: coupled decay belongs to the curvature."""
        decayed = DiagonalShift(self._hessian_operator(), self.geometry.l2_decay())
        gradient = self.geometry.seen(flatten(self.batches[0].gradient or [], dtype=self.geometry.dtype))
        inverse_sqrt = self.geometry.inverse_sqrt(self.geometry.split(gradient))
        operator = PreconditionedOperator(decayed, inverse_sqrt)
        return self._lanczos("preconditioned", operator, k=1, tolerance=TRACKING_TOLERANCE)

    def _stability(
        self, along: Directional | None, hessian: LanczosResult | None, preconditioned: LanczosResult | None
    ) -> dict[str, float]:
        """The stability number by every measure that was taken."""
        numbers: dict[str, float] = {}
        if along is not None and along.trust > 0.0:
            numbers["batch"] = along.total
            numbers["load"] = load_number(along.signal, along.noise, self.geometry.dynamics)
        sharpness = _leading(hessian)
        if sharpness is not None:
            lr = self.geometry.lr
            # The proposal's lr * lambda_max; relative to 2 (1 + mu) / lr if momentum-aware.
            numbers["hessian"] = (
                lr * sharpness / (1.0 + self.geometry.momentum if self.settings.momentum_aware else 1.0)
            )
        preconditioned_sharpness = _leading(preconditioned)
        if preconditioned_sharpness is not None:
            limit = self.geometry.dynamics.curvature_limit
            numbers["preconditioned"] = stability_number(preconditioned_sharpness, limit)
        return numbers

    def _relative_step(self, along: Directional | None) -> float | None:
        if along is None or not 0.0 < along.length < math.inf:
            return None
        weights = joint_norm(self.params)
        return along.length / weights if 0.0 < weights < math.inf else None

    def _loss(self) -> float:
        total = sum(batch.weight for batch in self.batches)
        return sum(batch.weight * (math.nan if batch.loss is None else batch.loss) for batch in self.batches) / total

    def _reason(self, along: Directional | None, deciding: LanczosResult | None) -> str:
        parts = [along.reason] if along is not None else []
        if self.settings.hvp == "auto":  # exact products were wanted: say what stood in the way
            parts += [operator.reason for operator in self.operators if operator.kind == "central"][:1]
        if deciding is not None and deciding.status is not LanczosStatus.CONVERGED:
            parts.append(deciding.reason)
        return "; ".join(part for part in parts if part)

    # --- vectors and operators --------------------------------------------------------------------------------

    def _step_vectors(self, batch: ProbeBatch) -> StepVectors:
        geometry, past = self.geometry, self.memory.past_gradient
        raw = flatten(batch.gradient or [], dtype=geometry.dtype)
        # A group may have been added since, and a checkpoint may come from another device.
        past = past.to(raw) if past is not None and past.shape == raw.shape else None
        gradient = geometry.seen(raw)
        factors = geometry.displacement_factors(geometry.split(gradient))
        return StepVectors(
            gradient=gradient,
            displacement=gradient * factors,
            past=None if past is None else geometry.seen(past) * factors,
            product=lambda vector: self._product_along_step(batch, raw, vector).addcmul_(geometry.l2_decay(), vector),
            weight=batch.weight,
        )

    def _product_along_step(self, batch: ProbeBatch, gradient: Tensor, vector: Tensor) -> Tensor:
        """``H_B`` times a displacement; a one-sided difference is taken on the side that the step goes to."""
        if self.settings.hvp in ("exact", "central"):
            return self._batch_operator(batch).matvec(vector)
        # A gradient in half precision is too coarse to be differenced: it is evaluated again in float32 copies.
        is_fine = all(p.dtype.itemsize >= 4 for p in self.params)
        operator = batch.difference_operator(
            self.params,
            self.modules,
            kind="forward",
            step_length=self._step_length(float(torch.linalg.vector_norm(vector))),
            base_gradient=gradient if is_fine else None,
        )
        self.operators.append(operator)
        product = operator.matvec(vector.neg_()).neg_()
        vector.neg_()  # in place and back: a copy would be one more vector of the parameters' size
        return product

    def _step_length(self, displacement: float) -> float:
        """Length of a one-sided difference along the step."""
        chosen = self.settings.step_length
        if chosen is not None and chosen != "step":
            return chosen
        shortest = default_step_length(self.params, "forward")
        if chosen is None or not math.isfinite(displacement):
            return shortest
        # The gradients that momentum averages are mostly noise: their average is shorter by sqrt((1-b)/(1+b)).
        momentum = self.geometry.dynamics.momentum
        return max(displacement * math.sqrt((1.0 - momentum) / (1.0 + momentum)), shortest)

    def _hessian_operator(self) -> LinearOperator:
        operators = [self._batch_operator(batch) for batch in self.batches]
        if len(operators) == 1:
            return operators[0]
        return BatchedOperator(operators, [batch.weight for batch in self.batches])

    def _batch_operator(self, batch: ProbeBatch) -> LinearOperator:
        if id(batch) not in self._operator_of:
            self._operator_of[id(batch)] = self._make_batch_operator(batch)
        return self._operator_of[id(batch)]

    def _make_batch_operator(self, batch: ProbeBatch) -> LinearOperator:
        operator = batch.hessian_operator(
            self.params, self.modules, hvp=self.settings.hvp, step_length=self._lanczos_step_length()
        )
        self.operators.append(operator)
        if self.group is not None and batch.loss_fn is not None:  # a closure's gradients are means over ranks already
            return MeanOverRanksOperator(operator, self.group)
        return operator

    def _lanczos_step_length(self) -> float | None:
        return None if self.settings.step_length == "step" else self.settings.step_length

    def _lanczos(self, name: str, operator: LinearOperator, *, k: int, tolerance: float) -> LanczosResult:
        start = self.memory.starts.get(name)
        result = lanczos(
            operator,
            k=k,
            num_steps=self.settings.num_lanczos_steps,
            which="smallest" if name == "smallest" else "largest",
            start=start if start is not None and start.shape[-1] == operator.size else None,
            tolerance=tolerance if self.settings.tolerance is None else self.settings.tolerance,
            vectors=True,
            basis_dtype=self.settings.basis_dtype,
            basis_device=self.settings.basis_device,
            generator=self.memory.generator,
        )
        if result.ritz_vectors is not None and result.status is not LanczosStatus.NONFINITE:
            self.memory.starts[name] = result.ritz_vectors
        self.num_matvecs += result.num_matvecs
        return result


def _leading(result: LanczosResult | None) -> float | None:
    return float(result.ritz_values[0]) if result is not None and len(result.ritz_values) else None
