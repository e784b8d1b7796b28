"""What keeps a run alive: steps on garbage are skipped, and a run that blew up can go back.

A step is garbage if its loss or gradient is not finite, or far larger than any of the last ones: one batch of inputs in
another unit would throw SGD off, and leave Adam with a second moment that holds it still for thousands of steps. What
comes again is data (:mod:`dcao.guarding.outliers`).

A skipped step leaves the weights where they are. So a row of them that ends by itself was garbage, and one that does
not end means that the data have changed or that the run blew up. One batch evaluated with the weights of the last
snapshot tells these apart: what is out of line there too is due to the data.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from dcao.guarding.outliers import StepMemory, loss_and_norm
from dcao.guarding.settings import Guard, Verdict
from dcao.guarding.snapshots import SavedBuffer, Snapshot, mend, save_buffers
from dcao.guarding.turning import Rising, TurningPoint
from dcao.models import Model
from dcao.probing.ranks import mean_loss
from dcao.shards import gradients_of
from dcao.vectors import params_of

SKIP_FACTOR = 0.5
"""Factor on lr after the second and third step in a row that is not finite: what loss scalers do after an overflow. It
is taken back if the row ends at the same weights, and kept if the run goes back to its snapshot."""

BUFFERS_EVERY = 10
"""Steps between the copies of buffers (BatchNorm statistics) that mend them after a bad batch."""

RISING_EVERY = 4
"""Smallest number of steps between the copies that are made while lr rises, where the mean loss is at its lowest."""

LOOKS = 3
"""Looks from the snapshot that find a row out of line before its data are taken for new ones. A row of garbage ends
sooner: with one look, inputs 1e4 times too large in five batches in a row were trained on, and SGD did not survive."""

NOT_FINITE = "loss or gradients are not finite"


@dataclass(kw_only=True)
class Row:
    """Skipped steps in a row.

    Attributes:
        length: Number of them.
        began: Step of the first one.
        cut: Product of the factors on lr so far.
        look_at: Length at which the next look from the snapshot is due.
        blamed_at: Length at which the run goes back: from the snapshot a batch was as usual. None: no look was.
        is_data: Whether the next step is taken if it is finite: the data have changed.
        is_finite: Whether the last one was.
    """

    length: int = 0
    began: int = 0
    cut: float = 1.0
    look_at: int = 0
    blamed_at: int | None = None
    is_data: bool = False
    is_finite: bool = True


class StepGuard:
    """Checks each step's loss and gradients; remembers what a run can go back to.

    Args:
        optimizer: The base optimizer, live.
        model: Its model, whose buffers a garbage batch may spoil.
        settings: What is garbage, and how often a snapshot is taken; None: nothing is checked.
    """

    def __init__(self, optimizer: Optimizer, model: Model, settings: Guard | None) -> None:
        self.optimizer, self.model = optimizer, model
        self.is_on = settings is not None
        self.settings = settings or Guard()
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget all steps, and what the run could go back to."""
        self.num_skipped = 0
        self.num_restored = 0
        self._memory = StepMemory(factor=self.settings.outlier, patience=self.settings.patience)
        self._longest_row = 0  # of those that ended by themselves
        self._row = Row()
        self._turning = TurningPoint()
        self._modules: Sequence[nn.Module] | None = None  # whose buffers are in _good_buffers
        self._good_buffers: list[SavedBuffer] = []
        self._snapshot: Snapshot | None = None
        self._is_away = False  # whether the weights are the snapshot's, which holds the present ones meanwhile

    def before_loss(self) -> None:
        """Copy the buffers of modules not seen before, which a first bad batch would spoil."""
        if not self.is_on:
            return
        modules, _ = self.model.look()
        if modules is not self._modules:
            self._keep_buffers(modules)

    def check(self, loss: Tensor | float | None, step: int, rising: Rising | None = None) -> Verdict | None:
        """What is unusual about the coming step, and whether it has to be skipped; None if it is as usual.

        Args:
            loss: Of the batch, at the present weights.
            step: The coming step.
            rising: While the loss is watched: once its mean has turned up, the run goes back to where that was lowest.
                None: it is not watched.
        """
        if not self.is_on:
            return None
        modules, ranks = self.model.look()
        own_loss, has_replicas = loss, ranks is not None and ranks.are_replicas
        if has_replicas:
            # Other ranks train the same model, and all must judge alike: by the gradients, which they share, not by a
            # loss of their own. A loss that is not finite on one rank has made the mean gradient so on all. (Of
            # sharded gradients the length has to be added up over the ranks in any case, and the loss comes along.)
            loss = None
        grads = gradients_of(params_of(self.optimizer))
        value, norm = loss_and_norm(loss, grads)
        is_finite = math.isfinite(norm) and math.isfinite(value or 0.0)
        trouble = self._memory.trouble(step=step, loss=value, norm=norm) if is_finite else NOT_FINITE
        if not self._is_away and (trouble is None or (is_finite and self._row.is_data)):
            if rising is not None:
                watched = mean_loss(own_loss, ranks) if ranks is not None and has_replicas else value
                if watched is not None:
                    self._turning.note(watched, rising)
                if self._turning.has_turned:
                    return self._turn_back()
            is_outlier = self._remember(modules, step, value, norm, watches=rising is not None)
            return self._end_row(is_outlier=is_outlier)
        self.num_skipped += 1
        mend(self._good_buffers)
        if self._is_away:
            is_usual = is_finite and (not self._row.is_finite or self._memory.is_usual(loss=value, norm=norm))
            return self._come_back(trouble or "not as usual", is_finite=is_finite, is_usual=is_usual)
        assert trouble is not None
        if self._row.length == 0:
            self._row = Row(began=step, look_at=self.settings.patience)
            if is_finite:
                self._memory.note(step=step, loss=value, norm=norm)
        return self._skip(trouble, is_finite=is_finite)

    def state_dict(self) -> dict[str, Any]:
        """Counters and what steps are measured against; snapshots are not part of a checkpoint, which is one itself."""
        return {
            "num_skipped": self.num_skipped,
            "num_restored": self.num_restored,
            "longest_row": self._longest_row,
            "row": asdict(self._row),
            "turning": self._turning.state_dict(),
            **self._memory.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, without a snapshot."""
        self.start_afresh()
        self.num_skipped, self.num_restored = state["num_skipped"], state["num_restored"]
        self._longest_row, self._row = state["longest_row"], Row(**state["row"])
        self._turning.load_state_dict(state["turning"])
        self._memory.load_state_dict(state)

    def __getstate__(self) -> dict[str, Any]:
        # What it goes back to holds the model's modules, which a copy of the optimizer must not copy.
        return {**self.__dict__, "_modules": None, "_good_buffers": [], "_snapshot": None, "_is_away": False}

    # --- a usual step -----------------------------------------------------------------------------------------

    def _remember(
        self, modules: Sequence[nn.Module], step: int, loss: float | None, norm: float, *, watches: bool
    ) -> bool:
        if step % BUFFERS_EVERY == 0 or modules is not self._modules:
            self._keep_buffers(modules)
        if self.settings.snapshot_every is not None:
            # A loss above the median may be the first of a blow-up, which is not what to go back to.
            losses = self._memory.losses
            is_usual = loss is None or not losses or loss <= statistics.median(losses)
            if is_usual and self._is_snapshot_due(step, watches=watches):
                self._take_snapshot(modules, step)
        return self._memory.remember(step=step, loss=loss, norm=norm)

    def _take_snapshot(self, modules: Sequence[nn.Module], step: int) -> None:
        if self._snapshot is None or not self._snapshot.take_again(modules, step):
            self._snapshot = None  # before the next one is made: there is memory for one
            self._snapshot = Snapshot(self.optimizer, modules, step, self.settings.snapshot_form)

    def _is_snapshot_due(self, step: int, *, watches: bool) -> bool:
        """While the loss is watched, what the run may go back to is where its mean was lowest."""
        snapshot = self._usable_snapshot()
        if snapshot is None:
            return True
        if watches:
            is_lowest = self._turning.is_lowest or self._turning.lowest is None
            return is_lowest and step - snapshot.step >= RISING_EVERY
        return step - snapshot.step >= (self.settings.snapshot_every or math.inf)

    def _keep_buffers(self, modules: Sequence[nn.Module]) -> None:
        if modules is self._modules:
            mend(self._good_buffers)
        self._modules, self._good_buffers = modules, save_buffers(modules)

    def _end_row(self, *, is_outlier: bool) -> Verdict | None:
        """The weights are those of the row's beginning, so that what was wrong with it was not their fault."""
        row, self._row = self._row, Row()
        self._longest_row = max(self._longest_row, row.length)
        if not is_outlier and row.cut == 1.0:
            return None
        reason = "guard: out of line, but so have others been: taken as data" if is_outlier else "guard: as usual again"
        if row.cut < 1.0:
            reason += f" after {row.length} skipped steps at the same weights; lr as before them"
        return Verdict(reason=reason, skips=False, factor=1.0 / row.cut, is_data=is_outlier)

    # --- a row of skipped steps -------------------------------------------------------------------------------

    def _skip(self, trouble: str, *, is_finite: bool) -> Verdict:
        row, has_snapshot = self._row, self._usable_snapshot() is not None
        row.length, row.is_finite = row.length + 1, is_finite
        reason = f"guard: {trouble}; step skipped ({row.length} in a row)"
        factor = 1.0
        if not is_finite and 1 < row.length <= self.settings.patience:
            factor = SKIP_FACTOR
            row.cut *= factor
        if has_snapshot and row.blamed_at is not None and row.length >= row.blamed_at:
            return self._go_back(reason)
        # Where rows without a finite step are usual, this one means more than they do once it is twice as long.
        if row.length < max(row.look_at, 0 if is_finite else 2 * self._longest_row + 1):
            return Verdict(reason=reason, factor=factor)
        if not has_snapshot:
            row.is_data = True  # nothing can tell, and a run must not stand still
            return Verdict(reason=reason, factor=factor)
        step = self._trade_places()
        reason += f"; the next batch is seen from the snapshot of step {step}"
        return Verdict(reason=reason, factor=factor)

    def _come_back(self, trouble: str, *, is_finite: bool, is_usual: bool) -> Verdict:
        """From the look at a batch from the snapshot, which says whether the data or the weights are to blame."""
        row, step = self._row, self._trade_places()
        row.length += 1
        row.look_at = row.length + self.settings.patience
        skipped = f"step skipped ({row.length} in a row)"
        if is_usual:
            row.blamed_at = row.look_at
            return Verdict(reason=f"guard: as usual from the snapshot of step {step}; {skipped}")
        row.is_data = is_finite and row.length >= LOOKS * (self.settings.patience + 1)
        return Verdict(reason=f"guard: {trouble}, from the snapshot too: not the weights but the data; {skipped}")

    def _go_back(self, reason: str) -> Verdict:
        step = self._restore()
        self._memory.forget_outlier(self._row.began)
        self._row = Row()
        reason += f"; back to the snapshot of step {step}"
        return Verdict(reason=reason, factor=SKIP_FACTOR, went_back=True)

    def _turn_back(self) -> Verdict:
        """To where the mean loss was lowest while lr rose; without a snapshot the run goes on from here."""
        lowest, row = self._turning.lowest, self._row
        assert lowest is not None
        self._turning, self._row = TurningPoint(), Row()
        reason = f"guard: the mean loss has turned up since lr was {lowest.lr:.3g}"
        if self._usable_snapshot() is None:
            return Verdict(reason=reason, skips=False, factor=1.0 / row.cut, turned_at=lowest.lr)
        self.num_skipped += 1
        reason += f"; back to the snapshot of step {self._restore()}"
        return Verdict(reason=reason, factor=1.0 / row.cut, turned_at=lowest.lr)

    def _restore(self) -> int:
        """Go back for good, and keep a snapshot of that: of the step that is returned."""
        step = self._trade_places()
        self._is_away = False
        self._take_snapshot(self._modules or (), step)
        self.num_restored += 1
        return step

    def _trade_places(self) -> int:
        """Have the weights and the snapshot change places; returns its step."""
        assert self._snapshot is not None
        self._snapshot.trade_places()
        self._is_away = not self._is_away
        return self._snapshot.step

    def _usable_snapshot(self) -> Snapshot | None:
        """The snapshot, unless parameters have left the groups since it was taken."""
        return self._snapshot if self._snapshot is not None and self._snapshot.is_complete() else None
