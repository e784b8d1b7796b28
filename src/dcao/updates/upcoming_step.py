"""The coming step of an optimizer: its preconditioner, its long-run displacement, and the decay that it adds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dcao.blocks import Vector, blocks, constant_blocks, pieces_of, spans
from dcao.layout import layout_of
from dcao.shards import is_shard, local_part
from dcao.updates.dynamics import StepDynamics
from dcao.updates.factors import block_factors
from dcao.updates.registry import OptimizerModel, optimizer_model
from dcao.vectors import as_real, flatten, vector_dtype

TINY = torch.finfo(torch.float32).tiny


class UpcomingStep:
    """An optimizer's coming step over some of its parameters, as vectors in blocks.

    Args:
        optimizer: The base optimizer, live. Its state is read and never written.
        record: The record of its class; None if it has none.
        params: The parameters, in the order in which the vectors have them.

    Raises:
        TypeError: On first use of the dynamics or the preconditioner, if the optimizer's class has no record.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> sgd = torch.optim.SGD([w], lr=0.1, momentum=0.5, weight_decay=1.0)
        >>> step = UpcomingStep(sgd, optimizer_model(sgd), [w])
        >>> g = step.with_coupled_decay([torch.tensor([1.0, 2.0])])  # g + weight_decay * w
        >>> step.displacement_factors(g)[0] * g[0]  # lr / (1 - momentum)
        tensor([0.4000, 0.6000])
    """

    def __init__(self, optimizer: Optimizer, record: OptimizerModel | None, params: Sequence[Tensor]) -> None:
        self.params, self.dtype, self.layout = params, vector_dtype(params), layout_of(params)
        group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        self._groups: list[dict[str, Any]] = [group_of[id(p)] for p in params]
        # With get, because the state is a defaultdict and indexing would write into it.
        self._states: list[dict[str, Any]] = [_real_state(optimizer.state.get(p, {})) for p in params]
        self._optimizer, self._record = optimizer, record

    @property
    def record(self) -> OptimizerModel:
        """The record of the optimizer's class; raises a TypeError with the reason if it has none."""
        return optimizer_model(self._optimizer) if self._record is None else self._record

    @property
    def has_record(self) -> bool:
        """Whether the optimizer's class has a record, without which only ``lr`` and ``momentum`` are known."""
        return self._record is not None

    @property
    def lr(self) -> float:
        """The lr of the reference group, which is the group with the largest lr."""
        return float(self._groups[self._reference]["lr"])

    @property
    def momentum(self) -> float:
        """The momentum of the reference group (``betas[0]`` of Adam); 0 if it has none."""
        group = self._groups[self._reference]
        return float(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))

    @cached_property
    def dynamics(self) -> StepDynamics:
        """The dynamics of the reference group, from which s is computed."""
        return self._dynamics[self._reference]

    @property
    def is_preconditioned(self) -> bool:
        """Whether the optimizer divides the gradient by a denominator, which takes up a constant factor on it."""
        group = self._groups[self._reference]
        return self.record.denominator(group, {}, torch.zeros(())) is not None

    @property
    def has_coupled_decay(self) -> bool:
        """Whether the optimizer adds weight decay to the gradient of some parameter."""
        return any(own.l2_decay for own in self._dynamics)

    def l2_decay(self) -> list[Tensor]:
        """Coupled weight decay of each entry; a block that has one value takes the memory of one entry."""
        return constant_blocks([own.l2_decay for own in self._dynamics], self.params, dtype=self.dtype)

    def with_coupled_decay(self, gradient: Vector) -> Vector:
        """The gradient that the optimizer sees: ``gradient`` plus that of the coupled weight decay."""
        if not self.has_coupled_decay:
            return gradient
        weights = blocks(self.params, dtype=self.dtype)
        return [torch.addcmul(*three) for three in zip(gradient, self.l2_decay(), weights, strict=True)]

    def displacement_factors(self, gradient: Vector) -> list[Tensor]:
        """``eta_eff P^-1``; its product with a constant gradient is the displacement a step in the long run.

        P is that of the coming step, if its gradient is ``gradient``. Its first-moment correction is left out, because
        it makes the first steps, whose average is not full yet, as long as all others.
        """
        if not self.is_preconditioned:
            return constant_blocks([own.step_size for own in self._dynamics], self.params, dtype=self.dtype)
        sizes = [own.step_size for own in self._dynamics]
        return [
            block_factors(self.record, self._groups[own], self._states[own], self.params[own], block, sizes[own])
            for own, block in zip(spans(self.params), gradient, strict=True)
        ]

    def inverse_sqrt(self, gradient: Vector) -> Tensor:
        """``P^-1/2`` with the P of the coming step, flat; it includes bias corrections and lr ratios between groups."""
        record, found = self.record, []
        for grad, group, state in zip(pieces_of(gradient, self.params), self._groups, self._states, strict=True):
            preconditioner = record.preconditioner(group, state, grad)
            inverse = torch.ones_like(grad) if preconditioner is None else preconditioner.reciprocal()
            ratio = float(group["lr"]) / self.lr if self.lr > 0.0 else 1.0
            found.append((inverse * ratio).clamp_min(TINY).sqrt())
        return flatten(found, dtype=self.dtype, device=self.params[0].device)

    @cached_property
    def _reference(self) -> int:
        return max(range(len(self._groups)), key=lambda index: float(self._groups[index]["lr"]))

    @cached_property
    def _dynamics(self) -> list[StepDynamics]:
        """The dynamics of each parameter's group, computed once: this object serves one probe."""
        record, by_group = self.record, dict[int, StepDynamics]()
        for group, state in zip(self._groups, self._states, strict=True):
            if id(group) not in by_group:
                by_group[id(group)] = record.dynamics(group, state)
        return [by_group[id(group)] for group in self._groups]


def _real_state(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a complex parameter as torch's optimizers read it, and what this process holds of a sharded one."""
    if not any(isinstance(value, Tensor) and (value.is_complex() or is_shard(value)) for value in state.values()):
        return state
    return {key: as_real(local_part(value)) if isinstance(value, Tensor) else value for key, value in state.items()}
