"""What a Lanczos run starts from."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dcao.draws import random_in
from dcao.layout import Layout
from dcao.operators.base import LinearOperator

# Weight of a fresh random direction in a start made of previous Ritz vectors. Without it a start inside an invariant
# subspace never sees an eigenvector that has grown outside of it. It lowers the first Rayleigh quotient by
# 0.1**2 = 1 %.
REFRESH = 0.1

# Weight of previous Ritz vectors beyond the k wanted now. With equal weights the worst error of tracking the top pair
# in 4 products rose from 3 % to 17 % (digits MLP). With 0.1 it stays at 3 %, and a pair about to overtake is still
# found.
UNWANTED = 0.1


def start_vector(
    operator: LinearOperator,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
    *,
    k: int = 1,
) -> Tensor:
    """Unit start vector in the operator's dtype and on its device.

    ``start`` is explained at :func:`dcao.lanczos`; its first ``k`` rows have full weight.

    Raises:
        ValueError: ``start`` has the wrong shape, is zero or is not finite.
    """
    if start is None:
        return _unit(random_direction(operator, generator), operator.layout)
    if start.ndim not in (1, 2) or start.shape[-1] != operator.size or start.shape[0] == 0:
        raise ValueError(f"start must have shape ({operator.size},) or (j, {operator.size}), got {tuple(start.shape)}")
    vector = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
    for i, row in enumerate(start.reshape(-1, operator.size)):  # no cast copy of all rows at once
        vector.add_(row.to(vector), alpha=1.0 if i < k else UNWANTED)
    norm = float(operator.layout.norm(vector))
    if not math.isfinite(norm):
        raise ValueError("start must be finite, got nan or inf; leave it out for a random start")
    if norm == 0.0:
        raise ValueError("start must not be zero; leave it out for a random start")
    vector.div_(norm)
    if start.ndim == 2:
        refresh = REFRESH / math.sqrt(operator.layout.total(operator.size))
        vector.add_(random_direction(operator, generator), alpha=refresh)
    return _unit(vector, operator.layout)


def random_direction(operator: LinearOperator, generator: torch.Generator | None) -> Tensor:
    """A random vector that the operator can multiply."""
    return random_in(operator.layout, operator.size, generator=generator, device=operator.device, dtype=operator.dtype)


def _unit(vector: Tensor, layout: Layout) -> Tensor:
    return vector.div_(layout.norm(vector))
