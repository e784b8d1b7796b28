"""The buffers of modules while a loss is evaluated: copies of them, or themselves where they cannot be swapped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dcao.state.tensors import Kept

if TYPE_CHECKING:
    from dcao.state.start import Start


def swap_buffers(modules: Sequence[nn.Module], start: Start | None) -> list[tuple[nn.Module, dict[str, Tensor | None]]]:
    """Give each module copies of its buffers (a shared buffer gets one), and return the originals to put back.

    With a ``start`` the copies have the content of that time, and it says which buffers are left to it.
    """
    copies: dict[int, Tensor] = {}
    swapped = []
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        originals = dict(module._buffers)
        wanted = originals if start is None else start.buffers.get(id(module), originals)
        if not originals and not wanted:
            continue
        swapped.append((module, originals))
        module._buffers.clear()
        for name, buffer in wanted.items():
            if buffer is None or (start is not None and start.is_in_place(buffer)):
                module._buffers[name] = buffer
                continue
            if id(buffer) not in copies:
                content = buffer if start is None else start.contents.get(id(buffer), buffer)
                copies[id(buffer)] = content.detach().clone()
            module._buffers[name] = copies[id(buffer)]
    return swapped


def keep_scripted(modules: Sequence[nn.Module]) -> list[Kept]:
    """The buffers of scripted modules, which cannot be swapped."""
    scripted = [module for module in modules if isinstance(module, torch.jit.ScriptModule)]
    return [Kept.now(buffer) for module in scripted for buffer in module.buffers(recurse=False)]
