"""What keeps a run alive: steps on non-finite numbers are skipped, and a run that blew up can go back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

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
        if snapshot_every is not None and snapshot_every < 1:
            raise ValueError(f"snapshot_every must be at least 1 step, got {snapshot_every}")
        if snapshot_every is not None and not enabled:
            raise ValueError("snapshot_every needs the guard, which notices that a run blew up; set guard=True")
        self.enabled, self.snapshot_every = enabled, snapshot_every
        self.num_skipped = 0
        self.num_restored = 0
        self._in_a_row = 0
        self._good_buffers: list[Tensor] = []
        self._snapshot: Snapshot | None = None

    def check(self, optimizer: Optimizer, modules: Sequence[nn.Module], loss: float | None, step: int) -> Skip | None:
        """None if the coming step may be taken."""
        if not self.enabled:
            return None
        grads = [p.grad for p in _params(optimizer) if p.grad is not None]
        if all_finite(loss, grads):
            self._in_a_row = 0
            self._remember(optimizer, modules, step)
            return None
        self.num_skipped += 1
        self._in_a_row += 1
        _mend(modules, self._good_buffers)
        return self._answer(optimizer, modules)

    def state_dict(self) -> dict[str, Any]:
        """Counters; snapshots are not part of a checkpoint, which is one itself."""
        return {"num_skipped": self.num_skipped, "num_restored": self.num_restored, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved counters, without a snapshot."""
        self.num_skipped, self.num_restored = state["num_skipped"], state["num_restored"]
        self._in_a_row, self._snapshot, self._good_buffers = state["in_a_row"], None, []

    def _remember(self, optimizer: Optimizer, modules: Sequence[nn.Module], step: int) -> None:
        if step % BUFFERS_EVERY == 0 or not self._good_buffers:
            self._good_buffers = [buffer.detach().clone() for buffer in _buffers(modules)]
        if self.snapshot_every is not None and step % self.snapshot_every == 0:
            self._snapshot = Snapshot(optimizer, modules, step)

    def _answer(self, optimizer: Optimizer, modules: Sequence[nn.Module]) -> Skip:
        reason = f"guard: loss or gradients are not finite; step skipped ({self._in_a_row} in a row)"
        factor = SKIP_FACTOR if self._in_a_row <= PATIENCE else 1.0
        if self._in_a_row == PATIENCE and self._snapshot is not None:
            self._snapshot.restore(optimizer, modules)
            self.num_restored += 1
            self._in_a_row = 0
            reason += f"; back to the snapshot of step {self._snapshot.step}"
        return Skip(reason=reason, factor=factor)


class Snapshot:
    """A copy in memory of parameters, buffers and optimizer state, to go back to."""

    def __init__(self, optimizer: Optimizer, modules: Sequence[nn.Module], step: int) -> None:
        self.step = step
        self.params = [p.detach().clone() for p in _params(optimizer)]
        self.buffers = [buffer.detach().clone() for buffer in _buffers(modules)]
        self.state = [_copy(optimizer.state.get(p)) for p in _params(optimizer)]

    @torch.no_grad()
    def restore(self, optimizer: Optimizer, modules: Sequence[nn.Module]) -> None:
        """Put everything back, in place."""
        for buffer, saved in zip(_buffers(modules), self.buffers, strict=True):
            buffer.copy_(saved)
        for p, value, state in zip(_params(optimizer), self.params, self.state, strict=True):
            p.copy_(value)
            if state is None:
                optimizer.state.pop(p, None)  # as before its first step: the optimizer sets it up anew
            else:
                optimizer.state[p].update(_copy(state) or {})


def all_finite(loss: float | None, tensors: Sequence[Tensor]) -> bool:
    """Whether a loss and all entries of some tensors are finite; reads one number back from the device.

    Example:
        >>> all_finite(1.0, [torch.ones(2)]), all_finite(1.0, [torch.tensor([1.0, float("nan")])])
        (True, False)
    """
    if loss is not None and not abs(loss) < float("inf"):  # "not a < b" also catches nan
        return False
    if not tensors:
        return True
    # The largest entry is nan or inf if any entry is; a sum of squares could overflow where no entry does.
    norms = torch._foreach_norm([t.detach() for t in tensors], float("inf"))
    return bool(torch.stack([norm.to(norms[0].device, torch.float32) for norm in norms]).isfinite().all())


def _mend(modules: Sequence[nn.Module], good: Sequence[Tensor]) -> None:
    """Put back copies of buffers that are no longer finite: BatchNorm keeps the nans of a batch that is skipped."""
    with torch.no_grad():
        for buffer, saved in zip(_buffers(modules), good, strict=False):
            if buffer.is_floating_point() and not bool(buffer.isfinite().all()):
                buffer.copy_(saved)


def _params(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _buffers(modules: Sequence[nn.Module]) -> list[Tensor]:
    return [buffer for module in modules for buffer in module._buffers.values() if buffer is not None]


def _copy(state: dict[str, Any] | None) -> dict[str, Any] | None:
    if not state:
        return None
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
