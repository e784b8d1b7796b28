"""What keeps a run alive: steps on garbage are skipped, and a run that blew up can go back.

Garbage are numbers that are not finite, and a gradient far longer or a loss far higher than any of the last ones: one
batch of inputs in another unit would throw SGD off, and leave Adam a second moment that holds it still for thousands
of steps. Several such batches in a row are a run that blew up.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao.checks import require_whole
from dcao.data_parallel import data_parallel_group
from dcao.vectors import params_of

SKIP_FACTOR = 0.5
"""lr factor that answers a skipped step: the usual answer of loss scalers to an overflow."""

PATIENCE = 3
"""Skipped steps in a row after which a run goes back to its snapshot, and no longer cuts the lr: one or two may be bad
batches, and a run that gets nothing but nan is not saved by a smaller step. Without a snapshot the next outlier passes:
it is the training that has changed."""

BUFFERS_EVERY = 10
"""Steps between the copies of buffers (BatchNorm statistics) that mend them after a bad batch."""

OUTLIER = 100.0
"""A gradient so many times longer than the longest of the last :data:`MEMORY` is garbage. In 18 unharmed runs
on six workloads, AdamW and SGD, batch 16 to 100, the largest such ratio was 4.3."""

SPREADS = 3.0
"""A loss above the first one, and above the highest of the last :data:`MEMORY` by so many times their spread, is
garbage or a blow-up."""

MEMORY = 50
"""Steps whose losses and gradient norms are remembered; no judgement before a tenth of them are."""

SNAPSHOT_EVERY = 25
"""Steps between snapshots by default: what a blow-up costs at most, besides those it takes to notice it."""

JUMP = 1e3
"""Between two copies no buffer's largest entry grows by such a factor unless a batch was garbage: inputs 1e4 times too
large move BatchNorm's variance by 1e7, and its normalisation hides them from the gradient."""


@dataclass(frozen=True, kw_only=True)
class Skip:
    """Why a step is skipped, the factor on lr that answers it, and whether the run has gone back to a snapshot."""

    reason: str
    factor: float
    went_back: bool = False


class Guard:
    """Checks each step's loss and gradients; remembers what a run can go back to.

    Args:
        enabled: Whether steps are checked at all.
        snapshot_every: Steps between snapshots; ``"auto"``: :data:`SNAPSHOT_EVERY` where the guard is on; None: none.
    """

    def __init__(self, *, enabled: bool, snapshot_every: int | Literal["auto"] | None) -> None:
        if snapshot_every == "auto":
            snapshot_every = SNAPSHOT_EVERY if enabled else None
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
        self._first_loss: float | None = None
        self._losses: deque[float] = deque(maxlen=MEMORY)
        self._norms: deque[float] = deque(maxlen=MEMORY)
        self._modules: Sequence[nn.Module] | None = None  # those that the good buffers are of
        self._replica_of: Sequence[nn.Module] | None = None
        self._replicated = False
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
        loss = None if self._is_replica(modules) else loss
        value, norm = loss_and_norm(loss, [p.grad for p in params_of(optimizer) if p.grad is not None])
        is_finite = math.isfinite(norm) and math.isfinite(value or 0.0)
        trouble = self._outlier(value, norm) if is_finite else "loss or gradients are not finite"
        if trouble is None:
            self._in_a_row = 0
            self._remember(optimizer, modules, step, value)
            self._norms.append(norm)
            if value is not None:
                self._first_loss = value if self._first_loss is None else self._first_loss
                self._losses.append(value)
            return None
        self.num_skipped += 1
        self._in_a_row += 1
        _mend(self._good_buffers)
        return self._answer(optimizer, trouble, is_finite=is_finite)

    def state_dict(self) -> dict[str, Any]:
        """Counters; snapshots are not part of a checkpoint, which is one itself."""
        return {
            "num_skipped": self.num_skipped,
            "num_restored": self.num_restored,
            "in_a_row": self._in_a_row,
            "first_loss": self._first_loss,
            "losses": list(self._losses),
            "norms": list(self._norms),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved counters, without a snapshot."""
        self.start_afresh()
        self.num_skipped, self.num_restored = state["num_skipped"], state["num_restored"]
        self._in_a_row = state["in_a_row"]
        self._first_loss = state["first_loss"]
        self._losses.extend(state["losses"])
        self._norms.extend(state["norms"])

    def __getstate__(self) -> dict[str, Any]:
        # What it goes back to holds the model's modules, which a copy of the optimizer must not copy.
        return {**self.__dict__, "_modules": None, "_replica_of": None, "_good_buffers": [], "_snapshot": None}

    def _remember(self, optimizer: Optimizer, modules: Sequence[nn.Module], step: int, loss: float | None) -> None:
        if step % BUFFERS_EVERY == 0 or modules is not self._modules:
            self._keep_buffers(modules)
        if self.snapshot_every is None:
            return
        due = self._snapshot is None or step - self._snapshot.step >= self.snapshot_every
        # A loss above the median may be the first of a blow-up, which is not what to go back to.
        if due and (loss is None or not self._losses or loss <= statistics.median(self._losses)):
            self._snapshot = Snapshot(optimizer, modules, step)

    def _keep_buffers(self, modules: Sequence[nn.Module]) -> None:
        if modules is self._modules:
            _mend(self._good_buffers)
        self._modules, self._good_buffers = modules, _save_buffers(modules)

    def _is_replica(self, modules: Sequence[nn.Module]) -> bool:
        """Whether other ranks train the same model: their losses are their own, and all must judge alike by gradients.

        A loss that is not finite on one rank has made the mean gradient so on all.
        """
        if self._replica_of is not modules:
            self._replica_of, self._replicated = modules, data_parallel_group(modules) is not None
        return self._replicated

    def _outlier(self, loss: float | None, norm: float) -> str | None:
        """What sets a step apart from the last ones, in words."""
        if len(self._norms) < MEMORY // 10 or self._in_a_row >= PATIENCE:  # then a step is taken again
            return None
        if norm > OUTLIER * max(self._norms):
            return f"gradient of length {norm:.3g}, over {OUTLIER:g} times the longest of the last {len(self._norms)}"
        if loss is not None and self._is_high(loss):
            return f"loss {loss:.3g}, far over the first one and the last {len(self._losses)}"
        return None

    def _is_high(self, loss: float) -> bool:
        if len(self._losses) < MEMORY // 10 or self._first_loss is None:
            return False
        highest = max(self._losses)
        return loss > max(self._first_loss, highest + SPREADS * (highest - min(self._losses)))

    def _answer(self, optimizer: Optimizer, trouble: str, *, is_finite: bool) -> Skip:
        reason = f"guard: {trouble}; step skipped ({self._in_a_row} in a row)"
        factor = SKIP_FACTOR if self._in_a_row <= PATIENCE and not is_finite else 1.0
        if self._in_a_row != PATIENCE or self._snapshot is None:
            return Skip(reason=reason, factor=factor)
        self._snapshot.restore(optimizer)
        self.num_restored += 1
        reason += f"; back to the snapshot of step {self._snapshot.step}"
        return Skip(reason=reason, factor=SKIP_FACTOR, went_back=True)


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
def loss_and_norm(loss: Tensor | float | None, grads: Sequence[Tensor]) -> tuple[float | None, float]:
    """The loss as a number, and the Euclidean norm of all gradients together; the device is waited for once.

    Example:
        >>> loss_and_norm(torch.tensor(1.5), [torch.tensor([3.0]), torch.tensor([4.0])])
        (1.5, 5.0)
    """
    entries = [g.coalesce().values() if g.is_sparse else g for g in grads]
    norms: list[Tensor] = []
    for is_narrow in (True, False):  # squares of half precision overflow
        same = [g for g in entries if g.numel() and (g.dtype.itemsize < 4) is is_narrow]
        norms += torch._foreach_norm(same, dtype=torch.float32 if is_narrow else None) if same else []
    norms = [norm.to(norms[0].device) for norm in norms]
    norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())  # stack takes the widest dtype
    if not isinstance(loss, Tensor):
        return None if loss is None else float(loss), float(norm)
    both: list[float] = torch.stack([loss.detach().reshape(()).to(norm), norm]).tolist()
    return both[0], both[1]


@dataclass(frozen=True, kw_only=True)
class SavedBuffer:
    """A copy of one module's buffer, which knows where it belongs."""

    module: nn.Module
    name: str
    value: Tensor

    @property
    def now(self) -> Tensor | None:
        """The buffer in use, where there is one."""
        return self.module._buffers.get(self.name)

    def restore(self) -> None:
        """Write the copy into the buffer in use."""
        if self.now is not None:
            self.now.copy_(self.value)


@torch.no_grad()
def _mend(good: Sequence[SavedBuffer]) -> None:
    """Put back the copies of buffers that are garbage now: BatchNorm keeps what it has seen in a skipped batch."""
    pairs = [(buffer, buffer.now) for buffer in good if buffer.now is not None]
    pairs = [(buffer, now) for buffer, now in pairs if now.is_floating_point() and now.numel()]
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
