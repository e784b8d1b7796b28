"""DCAO under Accelerate: ``prepare(accelerator, ...)`` for ``accelerator.prepare(...)``; see ``docs/trainers.md``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType
from torch import Tensor
from torch.optim import Optimizer

from dcao.integrations.own_loops import BackwardOfLosses, refuse_scaler
from dcao.operators.base import LossFn
from dcao.optimizer import DCAO

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
ENGINES = (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA)


def prepare(accelerator: Accelerator, *objects: Any, **settings: Any) -> Any:
    """What ``accelerator.prepare(*objects)`` returns, where each DCAO among them is an :class:`AcceleratedDCAO`.

    Example:
        >>> accelerator = Accelerator(cpu=True)
        >>> model = torch.nn.Linear(4, 1)
        >>> model, optimizer = prepare(accelerator, model, DCAO(torch.optim.AdamW(model.parameters())))
        >>> x = torch.randn(8, 4)
        >>> for _ in range(3):
        ...     loss = optimizer.backward(lambda: model(x).square().mean())
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> optimizer.num_steps
        3
    """
    refuse_engines(accelerator)
    prepared = accelerator.prepare(*objects, **settings)
    for optimizer in accelerator._optimizers:
        if type(optimizer) is AcceleratedOptimizer and isinstance(optimizer.optimizer, DCAO):
            # The object stays the same, because Accelerate has given it to its schedulers.
            optimizer.__class__ = AcceleratedDCAO
            optimizer.accelerator = accelerator
    return prepared


class AcceleratedDCAO(BackwardOfLosses, AcceleratedOptimizer):  # type: ignore[misc]  # Accelerate has no types
    """A DCAO that Accelerate has prepared; all that DCAO has can be asked of it too.

    A loop calls ``backward(loss_fn)`` in place of ``accelerator.backward(loss)``, then ``step()`` as always; or
    :meth:`minimize`, or ``step(closure)``, or ``probe_if_due(loss_fn)`` before the step.

    Attributes:
        optimizer: The DCAO inside.
        accelerator: The one that has prepared it.
    """

    accelerator: Accelerator

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """A step, unless this is not the last micro-batch of one."""
        super().step(closure)
        if self.gradient_state.sync_gradients:
            self.forget_losses()

    def zero_grad(self, set_to_none: bool | None = None) -> None:
        """Clear the gradients, unless they are being accumulated."""
        super().zero_grad(set_to_none)
        if self.gradient_state.sync_gradients:
            self.forget_losses()

    def minimize(self, loss_fn: LossFn | Sequence[LossFn], *, clip_norm: float | None = None) -> Tensor:
        """One training step; see :meth:`dcao.DCAO.minimize`.

        Raises:
            ValueError: Within ``accelerator.accumulate``, before the last micro-batch; or in fp16.
        """
        if not self.gradient_state.sync_gradients:
            raise ValueError(
                "minimize must be a whole step, got one within accelerator.accumulate; pass it the list of "
                "micro-batches without accumulate, or call optimizer.backward(loss_fn) and step()"
            )
        refuse_scaler(self.scaler)
        return self.optimizer.minimize(loss_fn, clip_norm=clip_norm)

    def __getattr__(self, name: str) -> Any:
        """Of the DCAO inside: ``probe_if_due``, ``effective_lrs``, ``last_estimate`` and so on."""
        if name in ("optimizer", "accelerator"):  # not there yet, in a copy
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    def _share(self) -> float:
        return 1.0 / int(self.accelerator.gradient_accumulation_steps)

    def _call_backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)


# --- for the Trainer of Hugging Face too ----------------------------------------------------------------------------


def dcao_of(optimizer: Optimizer | None) -> DCAO | None:
    """The DCAO inside what Accelerate has made of it; None if it is another optimizer.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> optimizer = DCAO(torch.optim.SGD([weight], lr=0.1))
        >>> dcao_of(Accelerator(cpu=True).prepare(optimizer)) is optimizer
        True
        >>> dcao_of(optimizer.base)
    """
    while isinstance(optimizer, AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    return optimizer if isinstance(optimizer, DCAO) else None


def precision_of(accelerator: Accelerator) -> torch.dtype | None:
    """The half-precision dtype of its autocast; None if there is none."""
    return PRECISIONS.get(accelerator.mixed_precision)


def refuse_engines(accelerator: Accelerator) -> None:
    """Raise a ValueError where another engine makes the step, or parameters do not say which parts they are."""
    if accelerator.distributed_type in ENGINES:
        raise ValueError(
            f"DCAO must take the step itself, got Accelerate with {accelerator.distributed_type.value}, which takes it "
            "in an engine of its own; train with DistributedDataParallel, FSDP2, or the bare optimizer"
        )
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError(
            "DCAO must know which parts of the parameters each process holds, got Accelerate with FSDP of version 1, "
            "whose flat parameters do not say; take version 2: FullyShardedDataParallelPlugin(fsdp_version=2), "
            'fsdp_version: 2 in the file of "accelerate config", or fsdp_config={"version": 2} of TrainingArguments'
        )
