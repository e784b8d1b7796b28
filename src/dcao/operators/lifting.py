"""A half-precision loss evaluated in float32: parameters, buffers, and every operation on the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from dcao.blocks import Vector, pieces_of
from dcao.operators.precision import HALF_PRECISION, is_half
from dcao.shards import fully_sharded


@contextmanager
def lifted(
    params: Sequence[Tensor], direction: Vector | None, scale: float, modules: Sequence[nn.Module]
) -> Iterator[None]:
    """Context in which half-precision parameters are float32 copies, and everything is computed in float32.

    The copies are moved by ``scale`` times the direction, if there is one; wider parameters stay where they are.

    Buffers of ``modules`` are float32 copies too. Whatever else is in half precision (frozen parameters, inputs) stays
    as it is, and each operation reads a float32 copy of it, so nothing is copied for longer than it is used. On exit
    the parameters and buffers are the tensors that they were, also after an exception.
    """
    originals = [(p, p.data) for p in params if is_half(p)]
    buffers = [
        (module, name, buffer)
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None and is_half(buffer)
    ]
    copies: dict[int, Tensor] = {}  # a buffer that several modules share stays shared
    try:
        for p, _ in originals:
            p.data = p.data.float()
        if direction is not None:
            halves = {id(p) for p, _ in originals}
            for p, piece in zip(params, pieces_of(direction, params), strict=True):
                if id(p) in halves:
                    p.data.add_(piece.to(p.data), alpha=scale)
        for module, name, buffer in buffers:
            module._buffers[name] = copies.setdefault(id(buffer), buffer.float())
        with _uncompiled(), _WideArguments(), _WideOperations():  # type: ignore[no-untyped-call]
            yield
    finally:
        for p, data in originals:
            p.data = data
        for module, name, buffer in buffers:
            module._buffers[name] = buffer


def require_liftable(modules: Sequence[nn.Module]) -> None:
    """Refuse a model that must not be lifted.

    DistributedDataParallel hangs its hooks on nodes that torch replaces when a parameter changes its dtype, so after
    one lifted evaluation gradients would no longer be synchronised. ``fully_shard`` gathers the shards that it has
    been given, whatever a parameter holds.
    """
    if any(isinstance(module, DistributedDataParallel) for module in modules):
        raise TypeError("parameters of DistributedDataParallel must keep their dtype")
    if fully_sharded(modules):
        raise TypeError("parameters of fully_shard must keep their dtype")


def _uncompiled() -> AbstractContextManager[Any]:
    """Context in which compiled functions run uncompiled.

    Torch does so by itself where it meets our modes, but then never runs that function compiled again.
    """
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and loading it takes seconds
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


class _WideArguments(TorchFunctionMode):
    """What torch checks before an operation starts: that the tensors of a call agree in their dtype.

    A call that is given float32 and half-precision tensors gets float32 ones, and a half-precision tensor that is asked
    for its dtype says float32, which is that of all that is computed from it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func == torch.Tensor.dtype.__get__:  # type: ignore[attr-defined]
            return torch.float32 if is_half(args[0]) else func(*args)
        if not func.__name__.endswith("_") and "out" not in kwargs:  # nothing is written in place
            dtypes = {each.dtype for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
            if torch.float32 in dtypes:
                args, kwargs = tree_map_only(Tensor, lambda t: t.float() if is_half(t) else t, (args, kwargs))
        return func(*args, **kwargs)


class _WideOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operation reads float32 in place of half precision, and writes float32 where half precision is asked for.

    This sits below autograd and autocast, so it reaches the backward pass, scripted modules and custom autograd
    functions too. Views and in-place operations keep the tensor that they share memory with.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        arguments, given = func._schema.arguments, dict(kwargs or {})
        values = [*zip(arguments, args, strict=False), *((a, given[a.name]) for a in arguments if a.name in given)]
        written = {value.dtype for argument, value in values if _is_written(argument) and is_half(value)}
        dtype = written.pop() if written else torch.float32  # what is written in place dictates the dtype
        cast = [_cast(argument, value, dtype) for argument, value in values]
        names = [argument.name for argument, _ in values[len(args) :]]
        given.update(zip(names, cast[len(args) :], strict=True))
        return func(*cast[: len(args)], **given)


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _cast(argument: Any, value: Any, dtype: torch.dtype) -> Any:
    """The value of an operation's argument, in ``dtype``: float32, or that of a half-precision tensor written to."""
    if isinstance(value, torch.dtype):
        return torch.float32 if value in HALF_PRECISION else value
    if argument.alias_info is not None:  # a view of it is returned, or it is written to
        return value
    if argument.name == "half_to_float":  # softmax(x, dtype=float32) in one kernel, which takes half precision alone
        return False
    narrows = dtype is not torch.float32
    return tree_map_only(
        Tensor, lambda t: t.to(dtype) if is_half(t) or (narrows and t.is_floating_point()) else t, value
    )
