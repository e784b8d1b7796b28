"""What keeps a run alive: steps on garbage are skipped, and a run that blew up can go back.

A step is garbage if its loss or gradient is not finite, or far larger than any of the last ones: one batch of inputs in
another unit would throw SGD off, and leave Adam with a second moment that holds it still for thousands of steps.
Several such batches in a row mean that the run blew up.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao.checks import require_number, require_whole
from dcao.models import Model
from dcao.snapshots import SavedBuffer, Snapshot, mend, save_buffers
from dcao.vectors import as_real

SKIP_FACTOR = 0.5
"""Factor on lr after a step that is not finite: what loss scalers do after an overflow."""

BUFFERS_EVERY = 10
"""Steps between the copies of buffers (BatchNorm statistics) that mend them after a bad batch."""

SPREADS = 3.0
"""A loss above the first one, and above the highest of the last :data:`MEMORY` by this many times their spread, is
garbage or a blow-up."""

MEMORY = 50
"""Steps whose losses and gradient norms are remembered. Outliers are judged once a tenth of them are there."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What the guard of :class:`dcao.DCAO` skips, and what a run can go back to. ``DCAO(base, guard=Guard(...))``.

    Args:
        snapshot_every: Steps between copies in memory of parameters, buffers and optimizer state, to which a run goes
            back after ``patience`` skipped steps in a row, with a smaller lr. Default 25: a blow-up costs no more steps
            than that, besides those that it takes to notice it. None: no copies.
        outlier: A gradient this many times longer than the longest of the last 50 is garbage. Default 100: in 18
            unharmed runs on six workloads, AdamW and SGD, batch 16 to 100, the largest such ratio was 4.3.
        patience: Skipped steps in a row after which a run goes back to its snapshot, and no longer cuts lr. Default 3:
            one or two may be bad batches, and a run that gets nothing but nan is not saved by a smaller step. Without a
            snapshot the next outlier passes: it is the training that has changed.

    Raises:
        TypeError, ValueError: On a wrong value, with the rule, the value and the fix.

    Example:
        >>> Guard(snapshot_every=None).patience
        3
    """

    snapshot_every: int | None = 25
    outlier: float = 100.0
    patience: int = 3

    def __post_init__(self) -> None:
        if self.snapshot_every is not None:
            require_whole("snapshot_every", self.snapshot_every, "step")
        require_whole("patience", self.patience, "skipped step")
        require_number("outlier", self.outlier)
        if not 1.0 < self.outlier < math.inf:  # "not a < b" also catches nan
            raise ValueError(f"outlier must be a finite factor above 1, got {self.outlier}")


@dataclass(frozen=True, kw_only=True)
class Skip:
    """Why a step is skipped, the factor on lr that answers it, and whether the run has gone back to a snapshot."""

    reason: str
    factor: float
    went_back: bool = False


class StepGuard:
    """Checks each step's loss and gradients; remembers what a run can go back to.

    Args:
        optimizer: The base optimizer, live.
        model: Its model, whose buffers a garbage batch may spoil.
        settings: What is garbage, and how often a snapshot is taken; None: nothing is checked.
    """

    def __init__(self, optimizer: Optimizer, model: Model, settings: Guard | None) -> None:
        self.optimizer, self.model, self.settings = optimizer, model, settings
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget all steps, and what the run could go back to."""
        self.num_skipped = 0
        self.num_restored = 0
        self._in_a_row = 0
        self._first_loss: float | None = None
        self._losses: deque[float] = deque(maxlen=MEMORY)
        self._norms: deque[float] = deque(maxlen=MEMORY)
        self._modules: Sequence[nn.Module] | None = None  # whose buffers are in _good_buffers
        self._good_buffers: list[SavedBuffer] = []
        self._snapshot: Snapshot | None = None

    def before_loss(self) -> None:
        """Copy the buffers of modules not seen before, which a first bad batch would spoil."""
        if self.settings is None:
            return
        modules, _ = self.model.look()
        if modules is not self._modules:
            self._keep_buffers(modules)

    def check(self, loss: Tensor | float | None, step: int) -> Skip | None:
        """Why the coming step has to be skipped; None if it may be taken."""
        if self.settings is None:
            return None
        modules, ranks = self.model.look()
        if ranks is not None:
            # Other ranks train the same model, and all must judge alike: by the gradients, which they share, not by a
            # loss of their own. A loss that is not finite on one rank has made the mean gradient so on all.
            loss = None
        grads = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        value, norm = loss_and_norm(loss, grads)
        is_finite = math.isfinite(norm) and math.isfinite(value or 0.0)
        trouble = self._outlier(value, norm, self.settings) if is_finite else "loss or gradients are not finite"
        if trouble is None:
            self._in_a_row = 0
            self._remember(modules, step, value, norm, self.settings)
            return None
        self.num_skipped += 1
        self._in_a_row += 1
        mend(self._good_buffers)
        return self._answer(trouble, self.settings, is_finite=is_finite)

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
        return {**self.__dict__, "_modules": None, "_good_buffers": [], "_snapshot": None}

    def _remember(
        self, modules: Sequence[nn.Module], step: int, loss: float | None, norm: float, settings: Guard
    ) -> None:
        if step % BUFFERS_EVERY == 0 or modules is not self._modules:
            self._keep_buffers(modules)
        if settings.snapshot_every is not None:
            due = self._snapshot is None or step - self._snapshot.step >= settings.snapshot_every
            # A loss above the median may be the first of a blow-up, which is not what to go back to.
            if due and (loss is None or not self._losses or loss <= statistics.median(self._losses)):
                self._snapshot = Snapshot(self.optimizer, modules, step)
        self._norms.append(norm)
        if loss is not None:
            self._first_loss = loss if self._first_loss is None else self._first_loss
            self._losses.append(loss)

    def _keep_buffers(self, modules: Sequence[nn.Module]) -> None:
        if modules is self._modules:
            mend(self._good_buffers)
        self._modules, self._good_buffers = modules, save_buffers(modules)

    def _outlier(self, loss: float | None, norm: float, settings: Guard) -> str | None:
        """Why this step is an outlier among the last ones, in words; None if it is not."""
        if len(self._norms) < MEMORY // 10 or self._in_a_row >= settings.patience:  # accept the next step
            return None
        if norm > settings.outlier * max(self._norms):
            times = f"{settings.outlier:g} times the longest of the last {len(self._norms)}"
            return f"gradient of length {norm:.3g}, over {times}"
        if loss is not None and self._is_high(loss):
            return f"loss {loss:.3g}, far over the first one and the last {len(self._losses)}"
        return None

    def _is_high(self, loss: float) -> bool:
        if len(self._losses) < MEMORY // 10 or self._first_loss is None:
            return False
        highest = max(self._losses)
        return loss > max(self._first_loss, highest + SPREADS * (highest - min(self._losses)))

    def _answer(self, trouble: str, settings: Guard, *, is_finite: bool) -> Skip:
        reason = f"guard: {trouble}; step skipped ({self._in_a_row} in a row)"
        factor = SKIP_FACTOR if self._in_a_row <= settings.patience and not is_finite else 1.0
        if self._in_a_row != settings.patience or self._snapshot is None:
            return Skip(reason=reason, factor=factor)
        self._snapshot.restore()
        self.num_restored += 1
        reason += f"; back to the snapshot of step {self._snapshot.step}"
        return Skip(reason=reason, factor=SKIP_FACTOR, went_back=True)


@torch.no_grad()
def loss_and_norm(loss: Tensor | float | None, grads: Sequence[Tensor]) -> tuple[float | None, float]:
    """The loss as a number, and the Euclidean norm of all gradients together; the device is waited for once.

    Example:
        >>> loss_and_norm(torch.tensor(1.5), [torch.tensor([3.0]), torch.tensor([4.0])])
        (1.5, 5.0)
    """
    entries = [as_real(g.coalesce().values() if g.is_sparse else g) for g in grads]
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
