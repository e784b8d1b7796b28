"""Lists of tensors as one flat real vector, and random vectors that never use the global generators.

A complex number counts as two real entries, as it does in torch's optimizers. Of a tensor that is spread over ranks a
vector holds what is in this process (:mod:`dcao.layout`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from dcao.layout import layout_of, num_entries
from dcao.shards import local_part

T = TypeVar("T")
RandomKind = Literal["gaussian", "rademacher"]
DEFAULT_SEED = 0


def flatten(
    tensors: Sequence[Tensor], *, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Tensor:
    """The entries of all ``tensors`` in order as one detached dense vector, always in new memory.

    ``dtype`` and ``device`` default to those of the first tensor; a complex number gives two entries.

    Example:
        >>> flatten([torch.ones(2, 2), torch.zeros(1)])
        tensor([1., 1., 1., 1., 0.])
    """
    if not tensors:
        raise ValueError("flatten needs at least one tensor, got none")
    dtype = dtype or tensors[0].dtype.to_real()
    device = device or tensors[0].device
    sizes = sizes_of(tensors)
    vector = torch.empty(sum(sizes), dtype=dtype, device=device)
    for slot, tensor in zip(torch.split(vector, sizes), tensors, strict=True):
        own = local_part(tensor).detach()
        dense = own.to_dense() if own.is_sparse else own
        slot.copy_(as_real(dense).reshape(-1))
    return vector


def unflatten(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The pieces of ``vector`` with the shapes, dtypes and devices of ``like``, as views if no cast is needed.

    Example:
        >>> [piece.shape for piece in unflatten(torch.arange(5.0), [torch.ones(2, 2), torch.zeros(1)])]
        [torch.Size([2, 2]), torch.Size([1])]
    """
    size = sum(sizes_of(like))
    if vector.shape != (size,):
        raise ValueError(f"vector must have shape ({size},) to match the tensors, got {tuple(vector.shape)}")
    pieces = zip(torch.split(vector, sizes_of(like)), map(local_part, like), strict=True)
    return [shaped(piece.to(dtype=t.dtype.to_real(), device=t.device), t) for piece, t in pieces]


def shaped(piece: Tensor, like: Tensor) -> Tensor:
    """A piece of a flat vector with the shape of the tensor that it belongs to; complex if that is.

    Example:
        >>> shaped(torch.arange(4.0), like=torch.ones(2, dtype=torch.complex64))
        tensor([0.+1.j, 2.+3.j])
    """
    may_be_complex = like.is_complex() or like.shape[-1:] == (2,)  # the model itself may view pairs as complex
    if may_be_complex and piece.storage_offset() % 2:
        piece = piece.clone()  # such a view has to begin at an even entry
    return torch.view_as_complex(piece.view(*like.shape, 2)) if like.is_complex() else piece.view(like.shape)


def as_real(tensor: Tensor) -> Tensor:
    """The same numbers, with one more axis of length 2 if they are complex.

    Example:
        >>> as_real(torch.tensor([1.0 + 2.0j]))
        tensor([[1., 2.]])
    """
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def entries_of(tensor: Tensor) -> Tensor:
    """The numbers that a tensor holds, detached and real; of a sparse one those that it stores, in new memory.

    Example:
        >>> entries_of(torch.tensor([0.0, 2.0]).to_sparse())
        tensor([2.])
    """
    detached = local_part(tensor).detach()
    return as_real(detached.coalesce().values() if detached.is_sparse else detached)


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean length of each tensor, in float32 or wider, on the device of the first of them.

    Example:
        >>> norms_of([torch.tensor([3.0, 4.0]), torch.tensor([-1.0]).bfloat16()])
        tensor([5., 1.])
    """
    dtype, device = vector_dtype(tensors), tensors[0].device
    norms = [torch.linalg.vector_norm(entries_of(t), dtype=vector_dtype([t])).to(device, dtype) for t in tensors]
    return layout_of(tensors).norm_each(torch.stack(norms))


def sizes_of(tensors: Iterable[Tensor]) -> list[int]:
    """Entries that each tensor takes in a flat vector.

    Example:
        >>> sizes_of([torch.ones(2, 2), torch.ones(3, dtype=torch.complex64)])
        [4, 6]
    """
    return [num_entries(local_part(t)) for t in tensors]


def vector_dtype(params: Sequence[Tensor]) -> torch.dtype:
    """Dtype of flat vectors for these parameters: the widest of theirs, and at least float32.

    Example:
        >>> vector_dtype([torch.ones(1, dtype=torch.bfloat16)])
        torch.float32
    """
    dtype = torch.float32
    for p in params:
        dtype = torch.promote_types(dtype, p.dtype.to_real())
    return dtype


def random_vector(
    size: int,
    *,
    kind: RandomKind = "gaussian",
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A random vector with independent entries of mean 0 and variance 1, drawn from ``generator``.

    It is drawn on the generator's device, so a seed gives the same vector for a model on any device. Without a
    generator a fresh CPU generator with seed 0 is used, which gives the same vector at every call.

    Example:
        >>> random_vector(4, kind="rademacher", generator=torch.Generator().manual_seed(1)).abs()
        tensor([1., 1., 1., 1.])
    """
    generator = generator if generator is not None else seeded(DEFAULT_SEED)
    if kind == "gaussian":
        return torch.randn(size, generator=generator, device=generator.device, dtype=dtype).to(device)
    if kind == "rademacher":
        bits = torch.randint(0, 2, (size,), generator=generator, device=generator.device, dtype=torch.int8)
        return bits.to(device=device, dtype=dtype).mul_(2).sub_(1)
    raise ValueError(f'kind must be "gaussian" or "rademacher", got {kind!r}')


def seeded(seed: int) -> torch.Generator:
    """A new CPU generator with this seed."""
    return torch.Generator().manual_seed(seed)


def unique(things: Iterable[T]) -> list[T]:
    """``things`` in order, each object once, so that tied weights appear once.

    Example:
        >>> w = torch.ones(1)
        >>> len(unique([w, w]))
        1
    """
    return list({id(thing): thing for thing in things}.values())


def params_of(optimizer: Optimizer) -> list[Tensor]:
    """The parameters of all param groups, in order.

    Example:
        >>> len(params_of(torch.optim.SGD(torch.nn.Linear(2, 1).parameters())))
        2
    """
    return [p for group in optimizer.param_groups for p in group["params"]]


def trainable(params: Iterable[Tensor]) -> list[Tensor]:
    """The tensors of ``params`` that require grad, each once: those for which curvature is measured.

    Raises:
        TypeError: ``params`` is a single tensor.
        ValueError: No parameter requires grad.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> _ = model.bias.requires_grad_(False)
        >>> len(trainable(model.parameters()))
        1
    """
    if isinstance(params, Tensor):
        raise TypeError("params must be a list or iterator of tensors, got one tensor; pass [tensor]")
    found = [p for p in unique(params) if p.requires_grad]
    if not found:
        raise ValueError("no parameter requires grad; pass the parameters that are trained")
    return found


def require_initialized(params: Iterable[Tensor]) -> None:
    """Check that no lazy module waits for its first batch: a probe would draw its values, and put the draws back."""
    if any(map(is_lazy, params)):
        raise ValueError(
            "Attempted to use an uninitialized parameter: a lazy module gets its parameters from its first batch, and "
            "that must not be a probe's. Fix: evaluate the loss, or take a training step, before probing"
        )
