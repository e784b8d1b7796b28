"""Parameters moved along a direction and put back bit for bit, in whatever precision they have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from dcao.layout import WHOLE, Layout
from dcao.operators.precision import is_half
from dcao.shards import local_part
from dcao.vectors import shaped, sizes_of

Move = tuple[Tensor, Tensor | None]
"""A parameter, and the direction in which it is moved, of its shape; None: it stays where it is."""

MAX_DOUBLINGS = 32
"""Of a displacement that is lost to rounding: enough from 2^-40 of a weight to one of its units in the last place."""


def split_like(direction: Tensor | None, params: Sequence[Tensor]) -> list[Move]:
    """Each parameter, or what this process holds of it, with its piece of a flat direction."""
    parts = [local_part(p) for p in params]
    if direction is None:
        return [(p, None) for p in parts]
    pieces = torch.split(direction, sizes_of(parts))
    return [(p, shaped(piece, p)) for piece, p in zip(pieces, parts, strict=True)]


@contextmanager
def moved(
    moves: Sequence[Move], scale: float, generator: torch.Generator | None = None, layout: Layout = WHOLE
) -> Iterator[float]:
    """Context in which the parameters are at ``w + scale * direction``; they are put back bit for bit.

    They are written in place through ``.data``, which leaves the version counters alone, so graphs that hold the
    parameters stay valid, and views and compiled code that hold their memory see the move.

    Half-precision parameters are rounded up or down at random, with draws from ``generator``, so that the displacement
    is right on average however short it is. One that comes out less than half as long is doubled until it does not.

    Yields:
        The scale that was reached: the displacement's component along the direction. Without half precision: ``scale``.
    """
    saved = [p.data if piece is None else p.data.clone() for p, piece in moves]
    try:
        for _ in range(MAX_DOUBLINGS):
            reached = _move(moves, saved, scale, generator, layout)
            if not abs(reached) < abs(scale) / 2.0:
                break
            scale *= 2.0
        yield reached
    finally:
        for (p, piece), data in zip(moves, saved, strict=True):
            if piece is not None:
                p.data.copy_(data)


def _move(
    moves: Sequence[Move], saved: Sequence[Tensor], scale: float, generator: torch.Generator | None, layout: Layout
) -> float:
    if not any(is_half(p) for p, piece in moves if piece is not None):
        for p, piece in moves:
            if piece is not None:
                p.data.add_(piece.to(device=p.device, dtype=p.dtype), alpha=scale)
        return scale
    along, length = [0.0] * len(moves), [0.0] * len(moves)
    for index, ((p, piece), data) in enumerate(zip(moves, saved, strict=True)):
        if piece is None:
            continue
        direction = piece.to(device=p.device, dtype=torch.promote_types(p.dtype, torch.float32))
        start = data.to(direction.dtype)
        end = torch.add(start, direction, alpha=scale)
        p.data.copy_(rounded_at_random(end, p.dtype, generator) if is_half(p) else end)
        along[index] = float(torch.sum((p.data.to(direction.dtype) - start) * direction))
        length[index] = float(torch.sum(direction * direction))
    sums = layout.sum_each(torch.tensor([along, length], dtype=torch.float64))
    return math.fsum(sums[0].tolist()) / math.fsum(sums[1].tolist())


def rounded_at_random(values: Tensor, dtype: torch.dtype, generator: torch.Generator | None) -> Tensor:
    """``values`` in a half-precision dtype, each rounded up or down so that its expectation is the value.

    Example:
        >>> third = torch.full((10_000,), 1.0 + 2**-7 / 3)  # a third of the way from 1 to the next value
        >>> draws = rounded_at_random(third, torch.bfloat16, torch.Generator().manual_seed(0))
        >>> draws.unique().tolist(), round(float((draws == 1.0).float().mean()), 1)
        ([1.0, 1.0078125], 0.7)
    """
    info = torch.finfo(dtype)
    exponent = torch.frexp(values).exponent.clamp_min(math.frexp(info.tiny)[1])  # subnormal values are equally spaced
    spacing = torch.ldexp(torch.full_like(values, info.eps), exponent - 1)
    scaled = values / spacing  # exact, because spacings are powers of 2
    below = scaled.floor()
    draws = torch.rand(values.shape, generator=generator, dtype=values.dtype).to(values.device)
    return (below + (draws < scaled - below)).mul_(spacing).to(dtype)
