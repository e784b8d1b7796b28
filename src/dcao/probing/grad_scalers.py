"""A GradScaler whose ``unscale_`` a closure calls: a repeated evaluation must find it as the first one did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch.amp.grad_scaler import GradScaler, OptState, _refresh_per_optimizer_state
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


@contextmanager
def before_unscaling(scalers: Sequence[GradScaler]) -> Iterator[None]:
    """Context in which the scalers have unscaled nothing yet; what they do there leaves no trace on them."""
    states = [scaler._per_optimizer_states for scaler in scalers]
    tensors = [t for s in scalers for t in (s._scale, s._growth_tracker) if t is not None]
    values = [t.clone() for t in tensors]
    try:
        for scaler in scalers:
            scaler._per_optimizer_states = defaultdict(_refresh_per_optimizer_state)
        yield
    finally:
        for scaler, state in zip(scalers, states, strict=True):
            scaler._per_optimizer_states = state
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)
