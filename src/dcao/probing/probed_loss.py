"""The loss that one probe measures, at the present weights: its batches, gradients and Hessian, each made once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType

import torch
from torch import nn

from dcao.blocks import Vector, blocks, cut, joined
from dcao.operators.base import LinearOperator
from dcao.operators.batched import BatchedOperator
from dcao.operators.finite_difference import FiniteDifferenceOperator, default_step_length
from dcao.operators.precision import coarsest_half, is_half
from dcao.operators.scaled import ScaledOperator
from dcao.probing.batch import Batch
from dcao.probing.ranks import MeanOverRanksOperator, mean_loss
from dcao.probing.settings import ProbeSettings
from dcao.updates.upcoming_step import UpcomingStep

HALF_PRECISION_ERROR = 0.1
"""Relative error of ``d' H d`` from gradients in half precision: nine in ten were smaller, on four networks at the
start and after 60 steps (benchmarks/half_precision.py)."""


class ProbedLoss:
    """The loss at the present weights, for all measures of one probe. A context: leaving it frees the graphs.

    Args:
        step: The optimizer's coming step over the parameters that are probed.
        modules: Modules of the model, whose state an evaluation must not change.
        batches: At least one; a gradient that is not known yet is evaluated here.
        settings: How products with the Hessian are made.
        why_not_lifted: Why half-precision parameters cannot be lifted, if an earlier probe found out; then what this
            one found.

    Attributes:
        num_matvecs: Products spent.
        difference_length: Length of one-sided differences along the step; None: what suits all parameters together.
        num_checks: Evaluations that only checked whether the loss repeats; not part of ``cost``.
        distance: Length of a one-sided difference that replaces whatever the settings say; None: they hold.
        search_cost: Part of ``cost`` that went into a search which no later probe repeats.
    """

    def __init__(
        self,
        step: UpcomingStep,
        modules: Sequence[nn.Module],
        batches: Sequence[Batch],
        settings: ProbeSettings,
        *,
        why_not_lifted: str = "",
    ) -> None:
        self.step, self.params, self.modules, self.settings = step, step.params, modules, settings
        self.batches = [batch.with_gradient(self.params, modules) for batch in batches]
        self._operators: list[LinearOperator] = []
        self._of_batch: dict[int, LinearOperator] = {}  # one graph a batch, whatever is asked of it
        self.num_matvecs = 0
        self.difference_length: float | None = None
        self.why_not_lifted = why_not_lifted
        self._differences: dict[int, FiniteDifferenceOperator] = {}  # along the step, of each batch
        self.num_checks = 0
        self.distance: float | None = None
        self.search_cost = 0.0

    def __enter__(self) -> ProbedLoss:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for operator in self._operators:
            operator.close()

    @property
    def value(self) -> float:
        """The weighted mean of the batches' losses; nan if one is not known."""
        total = sum(batch.weight for batch in self.batches)
        losses = [math.nan if batch.loss is None else batch.loss for batch in self.batches]
        return sum(batch.weight * loss for batch, loss in zip(self.batches, losses, strict=True)) / total

    def mean_value(self) -> float:
        """The same over the batches of all ranks, which all have to ask for it."""
        ranks = self.batches[0].ranks
        return self.value if ranks is None else mean_loss(self.value, ranks)

    def check_again(self, batch: Batch) -> Batch:
        """A batch evaluated once more, which does not count as a cost of what is measured."""
        self.num_checks += 1
        return batch.evaluated_anew(self.params, self.modules)

    def compare_own_evaluations(self) -> None:
        """Evaluate the training batch's gradient again, where that of the training step is of another kind."""
        self.batches = [
            batch.evaluated_anew(self.params, self.modules) if batch.is_training and not batch.evaluations else batch
            for batch in self.batches
        ]

    @property
    def cost(self) -> float:
        """Gradient evaluations spent so far, beyond the training step."""
        evaluations = sum(batch.evaluations for batch in self.batches)
        return evaluations + sum(operator.gradient_evaluations or 0.0 for operator in self._operators)

    @property
    def hvp(self) -> str:
        """How products were made: ``"exact"``, ``"central"`` or ``"forward"``; empty if there was none."""
        return self._operators[-1].kind if self._operators else ""

    @property
    def why_not_exact(self) -> str:
        """What prevented exact products where they were wanted; empty if nothing did."""
        central = [operator.reason for operator in self._operators if operator.kind == "central"]
        return central[0] if central and self.settings.hvp == "auto" else ""

    @property
    def how_it_steps(self) -> str:
        """What was done to the gradient between the backward pass and the step; empty if nothing was."""
        return next((batch.stepping.reason for batch in self.batches if batch.stepping is not None), "")

    def hessian(self) -> LinearOperator:
        """The Hessian of the mean loss over all batches, at the scale of the loss that trains."""
        operators = [self._at_training_scale(batch) for batch in self.batches]
        return operators[0] if len(operators) == 1 else BatchedOperator(operators, [b.weight for b in self.batches])

    def hessian_of(self, batch: Batch) -> LinearOperator:
        """The Hessian of one batch's loss."""
        if id(batch) not in self._of_batch:
            length = None if self.settings.step_length == "step" else self.settings.step_length
            operator = batch.hessian_operator(self.params, self.modules, hvp=self.settings.hvp, step_length=length)
            self._operators.append(operator)
            # The gradients of a caller's closure are means over the ranks already.
            ranks = batch.ranks
            if ranks is not None and ranks.are_replicas and (batch.loss_fn is not None or batch.parts):
                operator = MeanOverRanksOperator(operator, ranks)
            self._of_batch[id(batch)] = operator
        return self._of_batch[id(batch)]

    def _at_training_scale(self, batch: Batch) -> LinearOperator:
        # Of a loss_fn that a loop of its own has probed, the Hessian is what is asked for.
        factor = batch.stepping.loss_factor if batch.stepping is not None and batch.is_training else 1.0
        return self.hessian_of(batch) if factor == 1.0 else ScaledOperator(self.hessian_of(batch), factor)

    def product_along_step(
        self, batch: Batch, gradient: Vector, vector: Vector, norm: float, *, unit: float = 1.0
    ) -> Vector:
        """``H_B`` times a vector; a one-sided difference is taken on the side that the step goes to.

        Args:
            batch: The batch.
            gradient: Its gradient.
            vector: The displacement, divided by ``unit``.
            norm: Its length.
            unit: What the displacement has been divided by.
        """
        self.num_matvecs += 1
        if self.distance is None and self.settings.hvp in ("exact", "central"):
            hessian = self.hessian_of(batch)
            flat = joined(vector, self.params, dtype=self.step.dtype, device=hessian.device)
            return cut(hessian.matvec(flat), self.params)
        if norm == 0.0:
            return vector
        operator = self._difference_of(batch, gradient)
        operator.step_length = self._step_length(norm * unit) or operator.step_length
        return operator.product(vector, norm, side=-1.0)

    def precision_along_step(self) -> torch.dtype | None:
        """Half-precision dtype in which one-sided differences are taken; None if in float32 or wider.

        Half-precision parameters are evaluated in float32 if that works, which is found out here.
        """
        if self.settings.hvp in ("exact", "central"):
            return None
        found = {batch.precision for batch in self.batches}
        if any(map(is_half, self.params)):
            for batch in self.batches:
                operator = self._difference_of(batch, blocks(batch.gradient or [], dtype=self.step.dtype))
                operator.base()  # kept for the products
                self.why_not_lifted = operator.why_not_lifted
            found = {operator.computes_in for operator in self._differences.values()}
        return coarsest_half(found)

    @property
    def precision_note(self) -> str:
        """How half precision was dealt with along the step, in words; empty if there was none."""
        return next((each.precision_note for each in self._differences.values()), "")

    @property
    def relative_error(self) -> float:
        """Usual error of products along the step that come from half precision; 0 if none does."""
        is_rounded = any(operator.computes_in is not None for operator in self._differences.values())
        return HALF_PRECISION_ERROR if is_rounded else 0.0

    def _difference_of(self, batch: Batch, gradient: Vector) -> FiniteDifferenceOperator:
        """Products with one batch's Hessian by one-sided differences."""
        if id(batch) not in self._differences:
            operator = batch.difference_operator(
                self.params,
                self.modules,
                kind="forward",
                step_length=self.difference_length,
                base_gradient=gradient,
                why_not_lifted=self.why_not_lifted,
            )
            self._operators.append(operator)
            self._differences[id(batch)] = operator
        return self._differences[id(batch)]

    def _step_length(self, length: float) -> float | None:
        """Length of a one-sided difference along a step of this length; None: the one that suits rounding."""
        chosen = self.settings.step_length if self.distance is None else self.distance
        if chosen is not None and chosen != "step":
            return chosen
        if chosen is None or not math.isfinite(length):
            return self.difference_length
        # The gradients that momentum averages are mostly noise: their average is shorter by sqrt((1-b)/(1+b)).
        momentum = self.step.dynamics.momentum
        shortest = self.difference_length or default_step_length(self.params, "forward")
        return max(length * math.sqrt((1.0 - momentum) / (1.0 + momentum)), shortest)
