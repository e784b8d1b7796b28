"""How large a training step was: Euclidean norms over all trainable parameters together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm


@dataclass(frozen=True, kw_only=True)
class StepNorms:
    """Of one training step; None is not known.

    Attributes:
        gradient_norm: Of the gradients as the optimizer left them in ``.grad`` (some rewrite them in place).
        parameter_norm: Of the parameters after the step.
        update_norm: Of their change, weight decay included.
    """

    gradient_norm: float | None = None
    parameter_norm: float | None = None
    update_norm: float | None = None


NO_NORMS = StepNorms()


def copies(model: nn.Module) -> list[Tensor]:
    """Copies of the trainable parameters, to compare with later."""
    return [param.detach().clone() for param in _trainable(model)]


@torch.no_grad()
def step_norms(model: nn.Module, before: list[Tensor] | None) -> StepNorms:
    """Norms of the step that has just ended; ``before`` are the parameters' :func:`copies` from before it, if any."""
    params = _trainable(model)
    gradients = [param.grad for param in params if param.grad is not None]
    return StepNorms(
        gradient_norm=_norm(gradients) if gradients else None,
        parameter_norm=_norm(params),
        update_norm=None if before is None else _norm(torch._foreach_sub(params, before)),
    )


def _norm(tensors: Sequence[Tensor]) -> float:
    return get_total_norm(tensors).item()


def _trainable(model: nn.Module) -> list[Tensor]:
    return [param for param in model.parameters() if param.requires_grad]
