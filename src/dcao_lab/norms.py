"""How large a training step was: Euclidean norms over all trainable parameters together."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


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


def step_norms(model: nn.Module, before: Sequence[Tensor] | None) -> StepNorms:
    """Norms of the step that has just ended; ``before`` are the parameters' :func:`copies` from before it, if any."""
    params = _trainable(model)
    gradients = [param.grad for param in params if param.grad is not None]
    return StepNorms(
        gradient_norm=norm(gradients) if gradients else None,
        parameter_norm=norm(params),
        update_norm=None if before is None else norm(_differences(params, before)),
    )


@torch.no_grad()
def norm(tensors: Iterable[Tensor]) -> float:
    """Euclidean norm of all entries together.

    Example:
        >>> norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
        5.0
    """
    return math.hypot(*[torch.linalg.vector_norm(tensor).item() for tensor in tensors])


def _differences(after: Sequence[Tensor], before: Sequence[Tensor]) -> list[Tensor]:
    return [a.detach() - b for a, b in zip(after, before, strict=True)]


def _trainable(model: nn.Module) -> list[Tensor]:
    return [param for param in model.parameters() if param.requires_grad]
