"""Random vectors for sharded parameters, which do not depend on the number of ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from dcao.layout import Layout, ShardedLayout
from dcao.shards import cut, is_shard
from dcao.vectors import DEFAULT_SEED, RandomKind, random_vector, seeded

BLOCK = 2**20
"""Entries that are drawn at once, a multiple of 16: torch fills a normal vector by blocks of 16."""


def random_in(
    layout: Layout,
    size: int,
    *,
    kind: RandomKind = "gaussian",
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """What this process holds of a random vector (:func:`dcao.vectors.random_vector`) in this layout.

    Every rank draws the whole vector, as one process would, and keeps its part; it has one parameter of it in memory at
    a time.

    Args:
        layout: Where the entries are.
        size: Number of those in this process.
        kind: As for :func:`dcao.vectors.random_vector`, like all that follow.
        generator: The same on every rank.
        device: Where the vector goes.
        dtype: Its dtype.
    """
    if not isinstance(layout, ShardedLayout):
        return random_vector(size, kind=kind, generator=generator, device=device, dtype=dtype)
    drawn = InPieces(layout.total(size), kind=kind, generator=generator, dtype=dtype)
    vector, begin = torch.empty(size, dtype=dtype, device=device), 0
    for tensor, whole_size, length in zip(layout.tensors, layout.whole_sizes, layout.sizes, strict=True):
        whole = drawn.take(whole_size).view(*tensor.shape, *((2,) if tensor.is_complex() else ()))
        part = cut(whole, tensor) if is_shard(tensor) else whole
        vector[begin : begin + length].copy_(part.reshape(-1))
        begin += length
    return vector


class InPieces:
    """A random vector, the same as :func:`dcao.vectors.random_vector` gives, one piece after the other.

    Example:
        >>> pieces = InPieces(50, kind="gaussian", generator=seeded(1), dtype=torch.float32)
        >>> joined = torch.cat([pieces.take(20), pieces.take(30)])
        >>> torch.equal(joined, random_vector(50, generator=seeded(1)))
        True
    """

    def __init__(
        self, size: int, *, kind: RandomKind, generator: torch.Generator | None, dtype: torch.dtype, block: int = BLOCK
    ) -> None:
        self.kind, self.dtype, self.block, self.left = kind, dtype, block, size
        self.generator = generator if generator is not None else seeded(DEFAULT_SEED)
        self._buffer = torch.empty(0, dtype=dtype)

    def take(self, count: int) -> Tensor:
        """The next ``count`` entries."""
        pieces = [self._buffer]
        while sum(map(len, pieces)) < count:
            # The last block is drawn with the one before it: of less than 16 entries torch makes others.
            length = self.left if self.left < 2 * self.block else self.block
            pieces.append(random_vector(length, kind=self.kind, generator=self.generator, dtype=self.dtype))
            self.left -= length
        joined = torch.cat(pieces)
        self._buffer = joined[count:]
        return joined[:count]
