"""Buffers of modules: copies while a probe evaluates, and what cannot be swapped or put back.

A scripted module has no plain dictionary of them. Expanded, sparse, lazy and meta buffers and those of inference mode
cannot be written, and are not written by a forward pass either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dcao.shards import local_part
from dcao.state.tensors import Kept, can_be_kept
from dcao.vectors import unique

if TYPE_CHECKING:
    from dcao.state.start import Start


@contextmanager
def in_copies(modules: Sequence[nn.Module], start: Start | None) -> Iterator[None]:
    """Context in which each module has copies of its buffers (a shared buffer gets one), which are then forgotten.

    Those of scripted modules, and those that share their memory with other tensors, are used as they are, and put back.

    Args:
        modules: The modules.
        start: If given, the copies have the content of that time, and it says which buffers are left to it.
    """
    plain = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    in_place = [b for m in modules if isinstance(m, torch.jit.ScriptModule) for b in m.buffers(recurse=False)]
    if start is None:
        shared = sharing_memory(modules)
        in_place += [b for m in plain for b in m._buffers.values() if b is not None and (id(b) in shared or is_lazy(b))]
    kept = [Kept.now(b) for b in unique(in_place) if can_be_kept(b)]
    originals = [(module, dict(module._buffers)) for module in plain]
    _swap(originals, {id(b) for b in in_place}, start)
    try:
        yield
    finally:
        for module, buffers in originals:
            module._buffers.clear()
            module._buffers.update(buffers)
        for each in kept:
            each.restore()


def _swap(
    originals: Sequence[tuple[nn.Module, dict[str, Tensor | None]]], in_place: set[int], start: Start | None
) -> None:
    copies: dict[int, Tensor] = {}
    for module, buffers in originals:
        wanted = buffers if start is None else start.buffers.get(id(module), buffers)
        if not buffers and not wanted:
            continue
        module._buffers.clear()
        for name, buffer in wanted.items():
            if buffer is None or id(buffer) in in_place or (start is not None and start.is_in_place(buffer)):
                module._buffers[name] = buffer
                continue
            if id(buffer) not in copies:
                content = buffer if start is None else start.contents.get(id(buffer), buffer)
                copies[id(buffer)] = content.detach().clone()
            module._buffers[name] = copies[id(buffer)]


def buffers_of(modules: Sequence[nn.Module]) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Every buffer of ``modules`` that can be put back, with its module and name.

    Example:
        >>> layer = nn.BatchNorm1d(2)
        >>> layer.register_buffer("shift", torch.zeros(1).expand(2))
        >>> [name for _, name, _ in buffers_of([layer])]
        ['running_mean', 'running_var', 'num_batches_tracked']
    """
    for module in modules:
        for name, buffer in module._buffers.items():
            if buffer is not None and can_be_kept(buffer):
                yield module, name, buffer


def buffer_of(module: nn.Module, name: str) -> Tensor | None:
    """The buffer that the module has now; None if it has none that can be put back."""
    # The dictionary of a scripted module has no method get.
    buffer = module._buffers[name] if name in module._buffers else None  # noqa: SIM401
    return buffer if buffer is not None and can_be_kept(buffer) else None


def sharing_memory(modules: Sequence[nn.Module]) -> set[int]:
    """The ids of those buffers whose memory another buffer or a parameter of ``modules`` uses too.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> layer.register_buffer("view", layer.weight.detach()[0])
        >>> sharing_memory([layer]) == {id(layer.view)}
        True
    """
    buffers = {id(b) for m in modules for b in m._buffers.values() if b is not None}
    if not buffers:
        return buffers
    tensors = [t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None]
    users: dict[int, set[int]] = {}
    for tensor in tensors:
        if not is_lazy(tensor) and tensor.layout is torch.strided and tensor.numel() and not tensor.is_meta:
            users.setdefault(local_part(tensor).untyped_storage().data_ptr(), set()).add(id(tensor))
    return buffers & {each for ids in users.values() if len(ids) > 1 for each in ids}
