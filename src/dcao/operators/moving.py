"""Parameters moved along a direction and put back bit for bit, in whatever precision they have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from dcao.blocks import Vector, add_to, pieces_of
from dcao.layout import WHOLE, Layout
from dcao.operators.precision import is_half
from dcao.shards import local_part
from dcao.vectors import as_real

MAX_DOUBLINGS = 32
"""Of a displacement that is lost to rounding: enough from 2^-40 of a weight to one of its units in the last place."""


@contextmanager
def moved(
    params: Sequence[Tensor],
    direction: Vector,
    scale: float,
    generator: torch.Generator | None = None,
    *,
    leaves_half: bool = False,
    layout: Layout = WHOLE,
) -> Iterator[float]:
    """Context in which the parameters are at ``w + scale * direction``; they are put back bit for bit.

    They are written in place through ``.data``, which leaves the version counters alone, so graphs that hold the
    parameters stay valid, and views and compiled code that hold their memory see the move.

    Half-precision parameters are rounded up or down at random, with draws from ``generator``, so that the displacement
    is right on average however short it is. One that comes out less than half as long is doubled until it does not.
    If it ``leaves_half`` to somebody else, they stay where they are.

    Yields:
        The scale that was reached: the displacement's component along the direction. Without half precision: ``scale``.
    """
    saved = [None if leaves_half and is_half(p) else local_part(p).data.clone() for p in params]
    try:
        if leaves_half or not any(map(is_half, params)):
            _add(params, saved, direction, scale)
            yield scale
        else:
            yield _move_with_rounding(params, saved, direction, scale, generator, layout)
    finally:
        moved_ones = [(p, data) for p, data in zip(params, saved, strict=True) if data is not None]
        try:
            put_back(moved_ones)
        except BaseException:  # a signal handler may raise at any time, and half of them must not stay where they are
            put_back(moved_ones)
            raise


def put_back(saved: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Copy into each parameter what was saved of it."""
    for p, data in saved:
        local_part(p).data.copy_(data)


def _add(params: Sequence[Tensor], saved: Sequence[Tensor | None], direction: Vector, scale: float) -> None:
    if all(data is not None for data in saved):
        add_to(params, direction, scale)
        return
    for p, data, piece in zip(params, saved, pieces_of(direction, params), strict=True):
        if data is not None:
            target = as_real(local_part(p).data)
            target.add_(piece.to(target), alpha=scale)


def _move_with_rounding(
    params: Sequence[Tensor],
    saved: Sequence[Tensor | None],
    direction: Vector,
    scale: float,
    generator: torch.Generator | None,
    layout: Layout,
) -> float:
    for _ in range(MAX_DOUBLINGS):
        along, length = list[float](), list[float]()
        for p, data, piece in zip(params, saved, pieces_of(direction, params), strict=True):
            assert data is not None
            target = as_real(local_part(p).data)
            start = as_real(data).to(torch.promote_types(data.dtype.to_real(), torch.float32))
            piece = piece.to(start)
            end = torch.add(start, piece, alpha=scale)
            target.copy_(rounded_at_random(end, p.dtype, generator) if is_half(p) else end)
            along.append(float(torch.sum((target.to(start) - start) * piece)))
            length.append(float(torch.sum(piece * piece)))
        sums = layout.sum_each(torch.tensor([along, length], dtype=torch.float64)).tolist()
        reached: float = sum(sums[0]) / sum(sums[1])
        if not abs(reached) < abs(scale) / 2.0:
            break
        scale *= 2.0
    return reached


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
