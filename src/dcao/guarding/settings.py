"""What the guard is told, and what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from dcao.checks import require_number, require_whole
from dcao.guarding.kept import Form


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What the guard of :class:`dcao.DCAO` skips, and what a run can go back to. ``DCAO(base, guard=Guard(...))``.

    Args:
        snapshot_every: Steps between copies in memory of parameters, buffers and optimizer state, to which a run goes
            back when it has blown up, with a smaller lr. Default 25: a blow-up costs no more steps than that, besides
            those that it takes to notice it. None: no copies. While the policy wants the loss watched, as the default
            does in the first quarter of the run, a copy is made where its mean is lowest instead, to which the run goes
            back if that turns up for good.
        snapshot_device: Where the copies of parameters and of optimizer state are kept: ``"cpu"`` leaves an
            accelerator's memory free. Default: where the parameters are.
        snapshot_dtype: ``torch.bfloat16`` keeps wider numbers in it, in half the memory of float32. A run that goes
            back then goes on from weights that are rounded to 8 bits, and from averages that are; a look from the
            snapshot holds the present weights in full meanwhile. Default: as wide as they are.
        outlier: A gradient this many times longer than the longest of the last 50 that are not zero is skipped. Default
            100: in 18 unharmed runs on six workloads, AdamW and SGD, batch 16 to 100, the largest such ratio was 4.3.
        patience: Times that an outlier is skipped: one that has come as often in the last 1000 steps, within a factor
            of ``outlier``, is data, and is trained on. Also the skipped steps in a row after which one batch is
            evaluated with the snapshot's weights. If it is not an outlier there, and as many more steps are skipped,
            the run has blown up and goes back. If it is one there too, and twice more after as many skipped steps, the
            data have changed, and the next outlier is taken. Without a snapshot that is so after the first skipped
            steps. Default 3: a new task costs twelve steps.

    Raises:
        TypeError, ValueError: On a wrong value, with the rule, the value and the fix.

    Example:
        >>> Guard(snapshot_every=None).patience
        3
    """

    snapshot_every: int | None = 25
    snapshot_device: torch.device | str | None = None
    snapshot_dtype: torch.dtype | None = None
    outlier: float = 100.0
    patience: int = 3

    def __post_init__(self) -> None:
        if self.snapshot_every is not None:
            require_whole("snapshot_every", self.snapshot_every, "step")
        self._check_form()
        require_whole("patience", self.patience, "skipped step")
        require_number("outlier", self.outlier)
        if not 1.0 < self.outlier < math.inf:  # "not a < b" also catches nan
            raise ValueError(f"outlier must be a finite factor above 1, got {self.outlier}")

    def _check_form(self) -> None:
        if self.snapshot_dtype not in (None, torch.bfloat16):
            raise ValueError(
                f"snapshot_dtype must be torch.bfloat16 or None, got {self.snapshot_dtype}: float16 has no room for "
                "the averages of squares, and nothing else saves memory; leave it out to keep all bits"
            )
        if self.snapshot_form.device == torch.device("meta"):
            raise ValueError('snapshot_device must hold numbers, got "meta"; snapshot_every=None keeps no snapshot')
        if self.snapshot_every is None and self.snapshot_form != Form():
            raise ValueError(
                "snapshot_device and snapshot_dtype must be None with snapshot_every=None, which keeps no snapshot, "
                f"got {self.snapshot_device} and {self.snapshot_dtype}; leave them out"
            )

    @property
    def snapshot_form(self) -> Form:
        """Where snapshots are kept, and how wide."""
        device = None if self.snapshot_device is None else torch.device(self.snapshot_device)
        return Form(device=device, dtype=self.snapshot_dtype)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the guard has found in a step that is not as usual.

    Attributes:
        reason: What it is, in words.
        skips: Whether the step is not taken.
        factor: Factor on lr that answers it.
        went_back: Whether the run has gone back to a snapshot.
        turned_at: The lr at the lowest mean loss, where that has turned up while lr rose.
        is_data: Whether it is an outlier that is taken, because it has come before or does not stop.
    """

    reason: str
    skips: bool = True
    factor: float = 1.0
    went_back: bool = False
    turned_at: float | None = None
    is_data: bool = False
