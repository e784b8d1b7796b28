"""What an optimizer makes of a gradient: its preconditioner, its long-run displacement, the decay it adds to a loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dcao.updates.dynamics import StepDynamics
from dcao.updates.registry import OptimizerModel, optimizer_model
from dcao.vectors import flatten, vector_dtype

TINY = torch.finfo(torch.float32).tiny


class UpcomingStep:
    """An optimizer's coming step over some of its parameters, as flat vectors.

    Args:
        optimizer: The base optimizer, live. Its state is read and never written.
        record: What is known of its class; None if nothing is.
        params: The parameters, in the order of the flat vectors.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> sgd = torch.optim.SGD([w], lr=0.1, momentum=0.5, weight_decay=1.0)
        >>> step = UpcomingStep(sgd, optimizer_model(sgd), [w])
        >>> g = step.seen(torch.tensor([1.0, 2.0]))  # g + weight_decay * w
        >>> step.displacement_factors([g]) * g  # lr / (1 - momentum)
        tensor([0.4000, 0.6000])
    """

    def __init__(self, optimizer: Optimizer, record: OptimizerModel | None, params: Sequence[Tensor]) -> None:
        self.params, self.dtype = params, vector_dtype(params)
        self.sizes = [p.numel() for p in params]
        group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        self._groups: list[dict[str, Any]] = [group_of[id(p)] for p in params]
        # get: the state is a defaultdict, and indexing would write into it
        self._states: list[dict[str, Any]] = [optimizer.state.get(p, {}) for p in params]
        self._optimizer, self._record = optimizer, record

    @property
    def record(self) -> OptimizerModel:
        """What is known of the optimizer's class; a TypeError that says why nothing is."""
        return optimizer_model(self._optimizer) if self._record is None else self._record

    @property
    def has_record(self) -> bool:
        """Whether anything is known of the optimizer's class."""
        return self._record is not None

    @property
    def lr(self) -> float:
        """Lr of the reference group, which is the one with the largest."""
        return float(self._groups[self._reference]["lr"])

    @property
    def momentum(self) -> float:
        """Momentum of the reference group; 0 where there is none."""
        group = self._groups[self._reference]
        return float(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))

    @cached_property
    def dynamics(self) -> StepDynamics:
        """Dynamics of the reference group."""
        return self._dynamics[self._reference]

    def l2_decay(self) -> Tensor:
        """Coupled weight decay of each entry; of shape ``(1,)`` where it is the same for all."""
        decays = [own.l2_decay for own in self._dynamics]
        if len(set(decays)) == 1:
            return torch.tensor(decays[:1], dtype=self.dtype, device=self.params[0].device)
        return torch.cat(
            [
                torch.full((p.numel(),), d, dtype=self.dtype, device=self.params[0].device)
                for p, d in zip(self.params, decays, strict=True)
            ]
        )

    def seen(self, gradient: Tensor) -> Tensor:
        """A gradient as the optimizer sees it: coupled weight decay belongs to the loss."""
        if not any(own.l2_decay for own in self._dynamics):
            return gradient
        return torch.addcmul(gradient, self.l2_decay(), flatten(self.params, dtype=self.dtype))

    def displacement_factors(self, gradients: Sequence[Tensor]) -> Tensor:
        """``eta_eff P^-1``: times a gradient, where it leads to in the long run, a step, if it stays constant.

        P is the one that the coming step has if its gradients are ``gradients``; its first-moment correction is left
        out, because the first steps, short of an average, are as long as all others.
        """
        record, pieces = self.record, []
        for grad, group, state, own in zip(gradients, self._groups, self._states, self._dynamics, strict=True):
            denominator = record.denominator(group, state, grad)
            factor = torch.ones_like(grad) if denominator is None else denominator.reciprocal()
            pieces.append(factor * own.step_size)
        return flatten(pieces, dtype=self.dtype, device=self.params[0].device)

    def inverse_sqrt(self, gradients: Sequence[Tensor]) -> Tensor:
        """``P^-1/2`` as the coming step has P, bias corrections included; lr ratios between groups are part of it."""
        record, pieces = self.record, []
        for grad, group, state in zip(gradients, self._groups, self._states, strict=True):
            preconditioner = record.preconditioner(group, state, grad)
            inverse = torch.ones_like(grad) if preconditioner is None else preconditioner.reciprocal()
            ratio = float(group["lr"]) / self.lr if self.lr > 0.0 else 1.0
            pieces.append((inverse * ratio).clamp_min(TINY).sqrt())
        return flatten(pieces, dtype=self.dtype, device=self.params[0].device)

    def split(self, vector: Tensor) -> list[Tensor]:
        """Pieces of a flat vector, shaped like the parameters and on their devices, where the optimizer's state is."""
        pieces = zip(torch.split(vector, self.sizes), self.params, strict=True)
        return [piece.view(p.shape).to(p.device) for piece, p in pieces]

    @cached_property
    def _reference(self) -> int:
        return max(range(len(self._groups)), key=lambda index: float(self._groups[index]["lr"]))

    @cached_property
    def _dynamics(self) -> list[StepDynamics]:
        """For each parameter; worked out once a group, and once for the one probe that it serves."""
        record, by_group = self.record, dict[int, StepDynamics]()
        for group, state in zip(self._groups, self._states, strict=True):
            if id(group) not in by_group:
                by_group[id(group)] = record.dynamics(group, state)
        return [by_group[id(group)] for group in self._groups]
