"""Copies in memory to go back to: of a whole run, or of the buffers that a bad batch has blown up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao.guarding.kept import Form, Kept, held_state, kept_state, live_state
from dcao.state.buffers import buffer_of, buffers_of
from dcao.vectors import params_of

JUMP = 1e3
"""Only a garbage batch multiplies a buffer's largest entry by this much between two copies: inputs 1e4 times too large
move BatchNorm's variance by 1e7, and its normalisation hides them from the gradient."""


class Snapshot:
    """A copy in memory of parameters, buffers and optimizer state. What is added to them later is left as it is.

    Args:
        optimizer: The optimizer.
        modules: Modules of its model.
        step: The step that it is of.
        form: Where it is kept, and how wide; buffers are kept as they are.
    """

    def __init__(self, optimizer: Optimizer, modules: Sequence[nn.Module], step: int, form: Form) -> None:
        self.optimizer, self.step, self.form = optimizer, step, form
        self._is_whole, self._is_out = True, False
        self.buffers = save_buffers(modules)
        self.params = [(p, Kept.of(p.detach(), form)) for p in params_of(optimizer)]
        self.states = {p: kept_state(optimizer.state[p], form) for p, _ in self.params if optimizer.state.get(p)}

    @torch.no_grad()
    def take_again(self, modules: Sequence[nn.Module], step: int) -> bool:
        """Copy what is there now into the same memory, which is faster than new memory; False if it does not fit."""
        if self._is_out or not self._fits():
            return False
        self._is_whole = False  # half of each, if this is interrupted
        for p, kept in self.params:
            kept.take(p.detach())
            state = self.states.get(p, {})
            for key, value in state.items():
                if isinstance(value, Kept):
                    value.take(self.optimizer.state[p][key])
                else:
                    state[key] = self.optimizer.state[p][key]
        self.buffers, self.step = save_buffers(modules), step
        self._is_whole = True
        return True

    def _fits(self) -> bool:
        params = params_of(self.optimizer)
        if [id(p) for p, _ in self.params] != [id(p) for p in params]:
            return False
        states = [(self.optimizer.state.get(p) or {}, self.states.get(p, {})) for p in params]
        if any(now.keys() != ours.keys() for now, ours in states):
            return False
        pairs = [(ours[key], value) for now, ours in states for key, value in now.items()]
        pairs += [(kept, p) for p, kept in self.params]
        return all(k.fits(own) if isinstance(k, Kept) else not isinstance(own, Tensor) for k, own in pairs)

    def is_complete(self) -> bool:
        """Whether all parameters that it holds are still in the groups, in their shapes."""
        present = {id(p) for p in params_of(self.optimizer)}
        return self._is_whole and all(id(p) in present and p.shape == kept.content.shape for p, kept in self.params)

    @torch.no_grad()
    def trade_places(self) -> None:
        """Put everything back, and hold what was there instead; a second time undoes the first, to the last bit.

        What was there is held as wide as it is. Nothing is written for parameters that have left the groups.
        """
        self._is_out = not self._is_out
        for buffer in self.buffers:
            buffer.trade_places()
        present = {id(p) for p in params_of(self.optimizer)}
        for p, kept in self.params:
            if id(p) not in present or p.shape != kept.content.shape:
                continue
            held = self.form.copy(p.detach(), exact=self._is_out)
            p.copy_(kept.content)
            kept.content = held
            self._trade_state(p)
        # Of two that share memory the last one traded has to be the first to be traded back.
        self.buffers.reverse()
        self.params.reverse()

    def _trade_state(self, p: Tensor) -> None:
        ours, theirs = self.states.pop(p, None), self.optimizer.state.pop(p, None)
        if theirs:
            self.states[p] = held_state(theirs, self.form, exact=self._is_out)
        if ours is not None:  # else as before its first step: the optimizer sets it up again
            self.optimizer.state[p] = live_state(ours)


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
