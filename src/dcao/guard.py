"""What keeps a run alive: steps on non-finite numbers are skipped, and a run that blew up can go back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao.checks import require_whole
from dcao.vectors import params_of

SKIP_FACTOR = 0.5
"""lr factor that answers a skipped step: the usual answer of loss scalers to an overflow."""

PATIENCE = 3
"""Skipped steps in a row after which a run goes back to its snapshot, and no longer cuts the lr: one or two may be bad
batches, and a run that gets nothing but nan is not saved by a smaller step."""

BUFFERS_EVERY = 10
"""Steps between the copies of buffers (BatchNorm statistics) that mend them after a bad batch."""


@dataclass(frozen=True, kw_only=True)
class Skip:
    """Why a step is skipped, and the factor on lr that answers it."""

    reason: str
    factor: float


class Guard:
    """Checks each step's loss and gradients; remembers what a run can go back to.

    Args:
        enabled: Whether steps are checked at all.
        snapshot_every: Steps between snapshots; None for none.
    """

    def __init__(self, *, enabled: bool, snapshot_every: int | None) -> None:
        if snapshot_every is not None:
            require_whole("snapshot_every", snapshot_every, "step")
        if snapshot_every is not None and not enabled:
            raise ValueError("snapshot_every needs the guard, which notices that a run blew up; set guard=True")
        self.enabled, self.snapshot_every = enabled, snapshot_every
        self.start_afresh()

    def start_afresh(self) -> None:
        """Nothing skipped yet, and nothing to go back to."""
        self.num_skipped = 0
        self.num_restored = 0
        self._in_a_row = 0
        self._modules: Sequence[nn.Module] | None = None  # those that the good buffers are of
        self._good_buffers: list[SavedBuffer] = []
        self._snapshot: Snapshot | None = None

    def before_loss(self, modules: Sequence[nn.Module]) -> None:
        """Copy the buffers of modules not seen before, which a first bad batch would spoil."""
        if self.enabled and modules is not self._modules:
            self._keep_buffers(modules)

    def check(
        self, optimizer: Optimizer, modules: Sequence[nn.Module], loss: Tensor | float | None, step: int
    ) -> Skip | None:
        """None if the coming step may be taken."""
        if not self.enabled:
            return None
        grads = [p.grad for p in params_of(optimizer) if p.grad is not None]
        if all_finite(loss, grads):
            self._in_a_row = 0
            self._remember(optimizer, modules, step)
            return None
        self.num_skipped += 1
        self._in_a_row += 1
        _mend(self._good_buffers)
        return self._answer(optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Counters; snapshots are not part of a checkpoint, which is one itself."""
        return {"num_skipped": self.num_skipped, "num_restored": self.num_restored, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved counters, without a snapshot."""
        self.start_afresh()
        self.num_skipped, self.num_restored = state["num_skipped"], state["num_restored"]
        self._in_a_row = state["in_a_row"]

    def __getstate__(self) -> dict[str, Any]:
        # What it goes back to holds the model's modules, which a copy of the optimizer must not copy.
        return {**self.__dict__, "_modules": None, "_good_buffers": [], "_snapshot": None}

    def _remember(self, optimizer: Optimizer, modules: Sequence[nn.Module], step: int) -> None:
        if step % BUFFERS_EVERY == 0 or modules is not self._modules:
            self._keep_buffers(modules)
        if self.snapshot_every is not None and step % self.snapshot_every == 0:
            self._snapshot = Snapshot(optimizer, modules, step)

    def _keep_buffers(self, modules: Sequence[nn.Module]) -> None:
        self._modules, self._good_buffers = modules, _save_buffers(modules)

    def _answer(self, optimizer: Optimizer) -> Skip:
        reason = f"guard: loss or gradients are not finite; step skipped ({self._in_a_row} in a row)"
        factor = SKIP_FACTOR if self._in_a_row <= PATIENCE else 1.0
        if self._in_a_row == PATIENCE and self._snapshot is not None:
            self._snapshot.restore(optimizer)
            self.num_restored += 1
            self._in_a_row = 0
            reason += f"; back to the snapshot of step {self._snapshot.step}"
        return Skip(reason=reason, factor=factor)


class Snapshot:
    """A copy in memory of parameters, buffers and optimizer state, to go back to. What is added later stays."""

    def __init__(self, optimizer: Optimizer, modules: Sequence[nn.Module], step: int) -> None:
        self.step = step
        self.buffers = _save_buffers(modules)
        self.params = [(p, p.detach().clone(), _copy(optimizer.state.get(p))) for p in params_of(optimizer)]

    @torch.no_grad()
    def restore(self, optimizer: Optimizer) -> None:
        """Put everything back, in place."""
        for buffer in self.buffers:
            buffer.restore()
        for p, value, state in self.params:
            p.copy_(value)
            if state is None:
                optimizer.state.pop(p, None)  # as before its first step: the optimizer sets it up anew
            else:
                optimizer.state[p].update(_copy(state) or {})


@torch.no_grad()
def all_finite(loss: Tensor | float | None, tensors: Sequence[Tensor]) -> bool:
    """Whether a loss and all entries of some tensors are finite; reads one number back from the device.

    Example:
        >>> all_finite(1.0, [torch.ones(2)]), all_finite(1.0, [torch.tensor([1.0, float("nan")])])
        (True, False)
    """
    if loss is not None and not isinstance(loss, Tensor) and not math.isfinite(loss):
        return False
    entries = [t.coalesce().values() if t.is_sparse else t for t in tensors]
    entries = [t for t in entries if t.numel()]  # nothing has no largest entry
    # The largest entry is nan or inf if any entry is; a sum of squares could overflow where no entry does.
    norms = list(torch._foreach_norm(entries, float("inf"))) if entries else []
    if isinstance(loss, Tensor):
        norms.append(loss.reshape(()))
    if len({norm.device for norm in norms}) > 1:
        norms = [norm.to(norms[0].device) for norm in norms]
    return not norms or bool(torch.stack(norms).isfinite().all())  # stack takes the widest dtype


@dataclass(frozen=True, kw_only=True)
class SavedBuffer:
    """A copy of one module's buffer, which knows where it belongs."""

    module: nn.Module
    name: str
    value: Tensor

    def is_finite(self) -> bool:
        """Whether the buffer in use is."""
        now = self.module._buffers.get(self.name)
        return now is None or not now.is_floating_point() or bool(now.isfinite().all())

    def restore(self) -> None:
        """Write the copy into the buffer in use."""
        now = self.module._buffers.get(self.name)
        if now is not None:
            now.copy_(self.value)


@torch.no_grad()
def _mend(good: Sequence[SavedBuffer]) -> None:
    """Put back copies of buffers that are no longer finite: BatchNorm keeps the nans of a batch that is skipped."""
    for buffer in good:
        if not buffer.is_finite():
            buffer.restore()


def _save_buffers(modules: Sequence[nn.Module]) -> list[SavedBuffer]:
    return [
        SavedBuffer(module=module, name=name, value=buffer.detach().clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]


def _copy(state: dict[str, Any] | None) -> dict[str, Any] | None:
    if not state:
        return None
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
