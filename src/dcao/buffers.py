"""Buffers of modules as they come: scripted, lazy, expanded, sparse, of inference mode, without memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


def buffers_of(modules: Sequence[nn.Module]) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Every buffer of ``modules`` themselves that can be copied and written back, with its module and name.

    Example:
        >>> layer = nn.BatchNorm1d(2)
        >>> layer.register_buffer("shift", torch.zeros(1).expand(2))
        >>> [name for _, name, _ in buffers_of([layer])]
        ['running_mean', 'running_var', 'num_batches_tracked']
    """
    for module in modules:
        for name, buffer in module._buffers.items():
            if buffer is not None and can_be_written(buffer):
                yield module, name, buffer


def buffer_of(module: nn.Module, name: str) -> Tensor | None:
    """The buffer that the module has now; None if it has none that can be written."""
    # The dictionary of a scripted module has no method get.
    buffer = module._buffers[name] if name in module._buffers else None  # noqa: SIM401
    return buffer if buffer is not None and can_be_written(buffer) else None


def can_be_written(tensor: Tensor) -> bool:
    """Whether a tensor can be changed in place. What cannot is changed by no forward pass either."""
    if is_lazy(tensor) or tensor.layout is not torch.strided or tensor.device.type == "meta" or tensor.is_inference():
        return False
    return not any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
