"""GradScalers whose ``unscale_`` a closure calls, so that the gradient that steps is a fraction of the loss's."""

from __future__ import annotations

from collections.abc import Sequence

from torch.amp.grad_scaler import GradScaler, OptState
from torch.optim import Optimizer


def that_unscaled(scalers: Sequence[GradScaler], *optimizers: Optimizer) -> list[GradScaler]:
    """Those of ``scalers`` that have unscaled the gradients of one of these optimizers since their last ``update``.

    Example:
        >>> import torch
        >>> w = torch.nn.Parameter(torch.ones(1))
        >>> sgd, scaler = torch.optim.SGD([w]), torch.amp.GradScaler("cpu")
        >>> scaler.scale(w.sum()).backward()
        >>> that_unscaled([scaler], sgd)
        []
        >>> scaler.unscale_(sgd)
        >>> that_unscaled([scaler], sgd) == [scaler]
        True
    """
    keys = [id(optimizer) for optimizer in optimizers]

    def has_unscaled(scaler: GradScaler) -> bool:
        states = scaler.__dict__.get("_per_optimizer_states", {})
        return any(key in states and states[key]["stage"] is OptState.UNSCALED for key in keys)

    return [scaler for scaler in scalers if has_unscaled(scaler)]
