"""Vectors in blocks: one number for each entry of the parameters, without a flat copy of them.

A large parameter's block is its own memory. Neighbours that are small share one, in a copy, so that a network of many
small tensors takes few operations. Every place where such a vector becomes a number is in :mod:`dcao.sums`. Of tensors
that are spread over ranks a vector holds what is in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dcao.layout import counted_by_this_process
from dcao.shards import local_part
from dcao.vectors import as_real, sizes_of, vector_dtype

SMALL = 2**14
"""Entries of the largest tensor that shares a block: an operation on fewer takes longer to begin than to do."""

PART = 2**18
"""Entries of a shared block at most, and of a large one that a CPU works on at once: what comes from them stays in its
cache, and takes no memory that the system would have to clear first, which costs more than the work."""

PART_ON_ACCELERATOR = 2**24
"""The same for an accelerator, to which few large kernels are faster."""

Vector = Sequence[Tensor]
"""A vector in blocks, which are flat and real. Vectors over the same tensors have the same blocks, and what is narrower
than float32 is read as float32."""


class Entrywise(Sequence[Tensor]):
    """What a function makes of the entries of some vectors, made part by part where it is read: it takes no memory.

    Args:
        function: From tensors of one shape to a new one, entry by entry.
        vectors: What it is given.

    Example:
        >>> v = [torch.tensor([1.0, 2.0])]
        >>> Entrywise(torch.mul, v, v)[0]
        tensor([1., 4.])
    """

    def __init__(self, function: Callable[..., Tensor], *vectors: Vector) -> None:
        self.function, self.vectors = function, vectors

    def __len__(self) -> int:
        return len(self.vectors[0])

    def __getitem__(self, index: Any) -> Any:
        """A block, in new memory."""
        return self.function(*(_widened(vector[index]) for vector in self.vectors))


def spans(tensors: Sequence[Tensor]) -> list[slice]:
    """Which tensors each block belongs to: a large one alone, or small neighbours on one device.

    Example:
        >>> spans([torch.zeros(3), torch.zeros(20_000), torch.zeros(2), torch.zeros(5)])
        [slice(0, 1, None), slice(1, 2, None), slice(2, 4, None)]
    """
    found: list[slice] = []
    start, size, sizes, counts = 0, 0, sizes_of(tensors), counted_by_this_process(tensors)
    for index, (tensor, own) in enumerate(zip(tensors, sizes, strict=True)):
        joins = max(own, sizes[start]) <= SMALL and size + own <= PART and tensor.device == tensors[start].device
        joins = joins and (counts is None or counts[index] is counts[start])  # a block counts as a whole, or not at all
        if index > start and not joins:
            found.append(slice(start, index))
            start, size = index, 0
        size += own
    return [*found, slice(start, len(tensors))] if tensors else []


def blocks(tensors: Sequence[Tensor], *, dtype: torch.dtype | None = None) -> list[Tensor]:
    """The entries of ``tensors`` as a vector, detached; only to be read, since large blocks are the tensors' memory.

    ``dtype`` defaults to :func:`dcao.vectors.vector_dtype`.

    Example:
        >>> blocks([torch.ones(2, 2), torch.zeros(1)])
        [tensor([1., 1., 1., 1., 0.])]
    """
    dtype = dtype or vector_dtype(tensors)
    flat = [_flat(tensor) for tensor in tensors]
    return [
        _as(dtype, flat[span.start]) if span.stop == span.start + 1 else torch.cat([t.to(dtype) for t in flat[span]])
        for span in spans(tensors)
    ]


def constant_blocks(values: Sequence[float], like: Sequence[Tensor], *, dtype: torch.dtype) -> list[Tensor]:
    """A vector with one value for all entries of each tensor; a block of one value takes the memory of one entry."""
    found, sizes = [], sizes_of(like)
    for span in spans(like):
        device = like[span.start].device
        same = [torch.full((), value, dtype=dtype, device=device) for value in values[span]]
        parts = [value.expand(size) for value, size in zip(same, sizes[span], strict=True)]
        is_one = len(set(values[span])) == 1
        found.append(same[0].expand(sum(sizes[span])) if is_one else torch.cat(parts))
    return found


def in_blocks_of(vector: Vector, like: Sequence[Tensor], *, dtype: torch.dtype) -> list[Tensor] | None:
    """A vector, or one flat tensor, in the blocks and on the devices of ``like``; None if it is of another size.

    Example:
        >>> in_blocks_of([torch.arange(3.0)], [torch.zeros(1), torch.zeros(2)], dtype=torch.float64)
        [tensor([0., 1., 2.], dtype=torch.float64)]
        >>> in_blocks_of([torch.arange(4.0)], [torch.zeros(1), torch.zeros(2)], dtype=torch.float64) is None
        True
    """
    sizes = sizes_of(like)
    spanned = [(sum(sizes[span]), like[span.start].device) for span in spans(like)]
    if sizes_of(vector) != [size for size, _ in spanned]:
        return cut(vector[0].to(dtype), like) if sizes_of(vector) == [sum(sizes)] else None
    return [_as(dtype, block.to(device)) for block, (_, device) in zip(vector, spanned, strict=True)]


def chosen(vector: Vector, indices: Sequence[int]) -> Vector:
    """Some of the blocks of a vector, as a vector."""
    if isinstance(vector, Entrywise):
        return Entrywise(vector.function, *(chosen(each, indices) for each in vector.vectors))
    return [vector[index] for index in indices]


def cut(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """A flat vector over ``like`` in its blocks: views, unless they lie on other devices."""
    sizes = sizes_of(like)
    where = [(sum(sizes[span]), like[span.start].device) for span in spans(like)]
    parts = torch.split(flat, [size for size, _ in where])
    return [part.to(device) for part, (_, device) in zip(parts, where, strict=True)]


def joined(vector: Vector, like: Sequence[Tensor], *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A vector over ``like`` as one flat tensor, in new memory."""
    flat = torch.empty(sum(sizes_of(like)), dtype=dtype, device=device)
    end = 0
    for (part,) in parts_of(vector):
        flat[end : end + part.numel()].copy_(part)
        end += part.numel()
    return flat


def pieces_of(vector: Vector, like: Sequence[Tensor]) -> Iterator[Tensor]:
    """The entries of each of the tensors ``like``, in the shape of :func:`dcao.vectors.as_real`, block after block."""
    for block, span in zip(vector, spans(like), strict=True):
        for piece, tensor in zip(torch.split(block, sizes_of(like[span])), like[span], strict=True):
            yield piece.view(as_real(local_part(tensor).detach()).shape)


def add_to(tensors: Sequence[Tensor], vector: Vector, scale: float) -> None:
    """Add ``scale`` times a vector to the tensors, in place and unseen by graphs that hold them."""
    for index, span in enumerate(spans(tensors)):
        targets = [as_real(local_part(tensor).data) for tensor in tensors[span]]
        if len(targets) == 1 and targets[0].is_contiguous():
            target = torch.split(targets[0].view(-1), _part_size(targets[0]))
            for part, piece in zip(target, _parts(vector, index), strict=True):
                part.add_(piece.to(part), alpha=scale)
            continue
        pieces = torch.split(vector[index], sizes_of(targets))
        shaped = [piece.view(target.shape).to(target) for piece, target in zip(pieces, targets, strict=True)]
        torch._foreach_add_(targets, shaped, alpha=scale)


def parts_of(*vectors: Vector) -> Iterator[tuple[Tensor, ...]]:
    """The entries of vectors with the same blocks, part by part, those at the same places together.

    Example:
        >>> [len(part) for part, in parts_of([torch.zeros(PART + 1), torch.zeros(2)])]
        [262144, 1, 2]
    """
    different = {id(vector): vector for vector in vectors}
    for index in range(len(vectors[0])):
        for row in zip(*(_parts(vector, index) for vector in different.values()), strict=True):
            found = dict(zip(different, row, strict=True))
            yield tuple(found[id(vector)] for vector in vectors)


def _parts(vector: Vector, index: int) -> Iterator[Tensor]:
    if isinstance(vector, Entrywise):
        for row in zip(*(_parts(each, index) for each in vector.vectors), strict=True):
            yield vector.function(*row)
    else:
        block = _flat(vector[index])
        parts = torch.split(block, _part_size(block))
        yield from parts if _wide(block) is block.dtype else map(_widened, parts)


def _part_size(block: Tensor) -> int:
    return PART if block.device.type == "cpu" else PART_ON_ACCELERATOR


def _as(dtype: torch.dtype, block: Tensor) -> Tensor:
    return block if _wide(block) is dtype else block.to(dtype)


def _widened(tensor: Tensor) -> Tensor:
    return tensor.to(_wide(tensor))


def _flat(tensor: Tensor) -> Tensor:
    dense = local_part(tensor).detach()
    return as_real(dense.to_dense() if dense.is_sparse else dense).reshape(-1)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
