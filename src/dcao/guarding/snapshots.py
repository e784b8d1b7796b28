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
        self.params = [(p, p.detach().clone()) for p in params_of(optimizer)]
        self.states = {p: copy_of_state(optimizer.state[p]) for p, _ in self.params if optimizer.state.get(p)}

    def is_complete(self) -> bool:
        """Whether all parameters that it holds are still in the groups, in their shapes."""
        present = {id(p) for p in params_of(self.optimizer)}
        return all(id(p) in present and p.shape == value.shape for p, value in self.params)

    @torch.no_grad()
    def trade_places(self) -> None:
        """Put everything back, and hold what was there instead; a second time undoes the first.

        Nothing is written for parameters that have left the groups.
        """
        for buffer in self.buffers:
            buffer.trade_places()
        present = {id(p) for p in params_of(self.optimizer)}
        for p, value in self.params:
            if id(p) not in present or p.shape != value.shape:
                continue
            _trade(p, value)
            self._trade_state(p)
        # Of two that share memory the last one traded has to be the first to be traded back.
        self.buffers.reverse()
        self.params.reverse()

    def _trade_state(self, p: Tensor) -> None:
        ours, theirs = self.states.pop(p, None), self.optimizer.state.pop(p, None)
        if theirs:
            self.states[p] = dict(theirs)
        if ours is not None:  # else as before its first step: the optimizer sets it up again
            self.optimizer.state[p] = ours


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

    def trade_places(self) -> None:
        """The same, and hold what was in the buffer."""
        if self.now is not None:
            _trade(self.now, self.value)


@torch.no_grad()
def mend(good: Sequence[SavedBuffer]) -> None:
    """Restore the buffers of modules with garbage in one of them: BatchNorm's statistics remember a skipped batch.

    Its variance shows clearly what its mean, which moves by the root of that, may hide.
    """
    pairs = [(buffer, buffer.now) for buffer in good if buffer.now is not None]
    pairs = [(buffer, now) for buffer, now in pairs if now.is_floating_point() and now.numel() and now.itemsize > 1]
    before, after = _largest([buffer.value for buffer, _ in pairs]), _largest([now for _, now in pairs])
    spoilt = {
        buffer.module
        for (buffer, _), was, entry in zip(pairs, before, after, strict=True)
        if not math.isfinite(entry) or (was > 0.0 and entry > JUMP * was)
    }
    for buffer, _ in pairs:
        if buffer.module in spoilt:
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


def _trade(ours: Tensor, theirs: Tensor) -> None:
    held = ours.clone()
    ours.copy_(theirs)
    theirs.copy_(held)


def copy_of_state(state: dict[str, Any]) -> dict[str, Any]:
    """What an optimizer keeps for a parameter, its tensors copied."""
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
