"""Copies in memory to go back to: of a whole run, or of the buffers that a bad batch has blown up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao.state.buffers import buffer_of, buffers_of
from dcao.vectors import params_of

JUMP = 1e3
"""Only a garbage batch multiplies a buffer's largest entry by this much between two copies: inputs 1e4 times too large
move BatchNorm's variance by 1e7, and its normalisation hides them from the gradient."""


class Snapshot:
    """A copy in memory of parameters, buffers and optimizer state. What is added to them later is left as it is."""

    def __init__(self, optimizer: Optimizer, modules: Sequence[nn.Module], step: int) -> None:
        self.optimizer, self.step = optimizer, step
        self.buffers = save_buffers(modules)
        self.params = [(p, p.detach().clone(), _copy(optimizer.state.get(p))) for p in params_of(optimizer)]

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back, in place."""
        for buffer in self.buffers:
            buffer.restore()
        for p, value, state in self.params:
            p.copy_(value)
            if state is None:
                self.optimizer.state.pop(p, None)  # as before its first step: the optimizer sets it up anew
            else:
                self.optimizer.state[p].update(_copy(state) or {})


@dataclass(frozen=True, kw_only=True)
class SavedBuffer:
    """A copy of one module's buffer, which knows where it belongs."""

    module: nn.Module
    name: str
    value: Tensor

    @property
    def now(self) -> Tensor | None:
        """The buffer that the module has now; None if it has none."""
        return buffer_of(self.module, self.name)

    def restore(self) -> None:
        """Write the copy into the buffer that the module has now."""
        if self.now is not None:
            self.now.copy_(self.value)


@torch.no_grad()
def mend(good: Sequence[SavedBuffer]) -> None:
    """Restore the buffers that are garbage now: BatchNorm's statistics remember a batch whose step was skipped."""
    pairs = [(buffer, buffer.now) for buffer in good if buffer.now is not None]
    pairs = [(buffer, now) for buffer, now in pairs if now.is_floating_point() and now.numel() and now.itemsize > 1]
    before, after = _largest([buffer.value for buffer, _ in pairs]), _largest([now for _, now in pairs])
    for (buffer, _), was, entry in zip(pairs, before, after, strict=True):
        if not math.isfinite(entry) or (was > 0.0 and entry > JUMP * was):
            buffer.restore()


def _largest(tensors: Sequence[Tensor]) -> list[float]:
    """Largest absolute entry of each, read back at once."""
    if not tensors:
        return []
    norms = [norm.to(tensors[0].device) for norm in torch._foreach_norm(list(tensors), math.inf)]
    largest: list[float] = torch.stack(norms).tolist()
    return largest


def save_buffers(modules: Sequence[nn.Module]) -> list[SavedBuffer]:
    """Copies of all buffers of ``modules`` that can be put back."""
    return [
        SavedBuffer(module=module, name=name, value=buffer.detach().clone())
        for module, name, buffer in buffers_of(modules)
    ]


def _copy(state: dict[str, Any] | None) -> dict[str, Any] | None:
    if not state:
        return None
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
