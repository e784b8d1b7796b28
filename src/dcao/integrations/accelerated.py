"""What Accelerate and the Hugging Face Trainer, which is built on it, put around an optimizer, and what they run in."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType
from torch.optim import Optimizer

from dcao.optimizer import DCAO

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def dcao_of(optimizer: Optimizer | None) -> DCAO | None:
    """The DCAO inside what Accelerate has made of it; None if it is another optimizer.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> optimizer = DCAO(torch.optim.SGD([weight], lr=0.1))
        >>> dcao_of(AcceleratedOptimizer(optimizer)) is optimizer
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
    """Raise a ValueError where another engine makes the step."""
    if accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA):
        raise ValueError(
            f"DCAO must take the step itself, got Accelerate with {accelerator.distributed_type.value}, which takes it "
            "in an engine of its own; train with DistributedDataParallel, or with the bare optimizer"
        )
