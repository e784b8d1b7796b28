"""How large a training step was: Euclidean norms over all trainable parameters together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm


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


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training moves."""
    return [param for param in model.parameters() if param.requires_grad]


@torch.no_grad()
def flat_copy(tensors: Sequence[Tensor]) -> Tensor:
    """All entries in one new vector."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def step_norms(params: Sequence[nn.Parameter], before: Tensor | None) -> StepNorms:
    """Norms of the step that has just ended; ``before`` is the :func:`flat_copy` from before it, if there is one.

    One vector each and no loop over the parameters, which takes twice as long on small networks.
    """
    gradients = [param.grad for param in params if param.grad is not None]
    after = flat_copy(params)
    return StepNorms(
        gradient_norm=vector_norm(flat_copy(gradients)).item() if gradients else None,
        parameter_norm=vector_norm(after).item(),
        update_norm=None if before is None else vector_norm(after.sub_(before)).item(),
    )
