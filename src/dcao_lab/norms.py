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


class NormMeter:
    """Norms of a training step, from one vector each: a loop over the parameters takes twice as long on small networks.

    The vectors are kept from step to step, since new memory of their size is dear every time it is touched first.
    """

    def __init__(self, params: Sequence[nn.Parameter]) -> None:
        self._params = params
        self._before: Tensor | None = None
        self._now: Tensor | None = None
        self._knows_before = False

    @torch.no_grad()
    def before_step(self) -> None:
        """Keep the parameters as they are before the step."""
        self._before, self._knows_before = _flattened(self._params, self._before), True

    @torch.no_grad()
    def after_step(self) -> StepNorms:
        """Norms of the step that has just ended; of its update only if :meth:`before_step` came before it."""
        gradients = [param.grad for param in self._params if param.grad is not None]
        gradient_norm = None
        if gradients:
            self._now = _flattened(gradients, self._now)
            gradient_norm = vector_norm(self._now).item()
        self._now = _flattened(self._params, self._now)
        parameter_norm, update_norm = vector_norm(self._now).item(), None
        if self._knows_before:
            update_norm = vector_norm(self._now.sub_(self._before)).item()
        self._knows_before = False
        return StepNorms(gradient_norm=gradient_norm, parameter_norm=parameter_norm, update_norm=update_norm)


def _flattened(tensors: Sequence[Tensor], into: Tensor | None) -> Tensor:
    """All entries in one vector, in ``into`` if that has their number."""
    flat = [tensor.flatten() for tensor in tensors]
    if into is None or len(into) != sum(map(len, flat)):
        return torch.cat(flat)
    return torch.cat(flat, out=into)
