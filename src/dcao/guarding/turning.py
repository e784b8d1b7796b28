"""The rise of the learning rate as a range test: has the mean training loss turned up for good?

While lr rises, the loss falls faster and faster, until steps are too long and it turns up. A pretrained network forgets
in these few steps what no later step brings back. So the mean loss is watched, and where it has turned up the run goes
back to where it was lowest.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

WINDOW = 8
"""Steps whose losses are averaged: lr grows by a factor of 2 in them at most."""

LONGEST = 16
"""Steps after the lowest window that are averaged and compared with it, as soon as there are so many."""

SHARE_OF_GAIN = 0.2
"""Share of what the loss had gained by which it has to be up. Momentum carries weights across a valley and back: on
quadratics, with a momentum of 0.9 and an lr that rises by 10 % a step, four windows in a row swing up by 10 % of the
gain, and single ones by 21 %, but no two by 20 %."""

LASTING = 3
"""Steps in a row at which it has to be up."""


@dataclass(frozen=True, kw_only=True)
class Rising:
    """How closely the loss is watched.

    Attributes:
        lr: What has trained so far.
        errors: Standard errors by which the mean loss has to be up.
    """

    lr: float
    errors: float


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A step's loss, and what goes with it.

    Attributes:
        loss: Of the step's batch.
        lr: What the step before it was trained with.
        number: Number of steps up to this one.
        noise: Half the squared difference to the loss before: the variance, by these two.
    """

    loss: float
    lr: float
    number: int
    noise: float


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some steps in a row.

    Attributes:
        mean: Of their losses.
        lr: At their centre.
        first: Number of the first one.
    """

    mean: float
    lr: float
    first: int


class TurningPoint:
    """Watches the losses of successive steps.

    The noise of a loss is told from its course by differences of neighbours, over all steps since the lowest window. By
    the variances of the two windows, of eight steps each, chance passes for a turn five times as often.

    Example:
        >>> loss = TurningPoint()
        >>> for step in range(16):  # falls, with some noise
        ...     loss.note(20.0 - step + step % 2, Rising(lr=1.1**step, errors=4.0))
        >>> loss.is_lowest, loss.has_turned
        (True, False)
        >>> for step in range(18):  # and rises
        ...     loss.note(10.0 + step, Rising(lr=1.1 ** (16 + step), errors=4.0))
        >>> loss.has_turned, loss.lowest.mean, round(loss.lowest.lr / 1.1**14, 6)
        (True, 8.625, 1.0)
    """

    def __init__(self) -> None:
        self.last: deque[Seen] = deque(maxlen=LONGEST)
        self.first_mean: float | None = None
        self.lowest: Window | None = None
        self.is_lowest = False
        self.noise = 0.0  # summed since the lowest window's first step
        self.num_up = 0

    @property
    def has_turned(self) -> bool:
        """Whether the loss has turned up for good."""
        return self.num_up >= LASTING

    def note(self, loss: float, rising: Rising) -> None:
        """Note the loss of a step; one that is not finite says nothing."""
        if not math.isfinite(loss):
            return
        before = self.last[-1] if self.last else Seen(loss=loss, lr=rising.lr, number=0, noise=0.0)
        change = loss - before.loss
        self.last.append(Seen(loss=loss, lr=rising.lr, number=before.number + 1, noise=change * change / 2.0))
        if len(self.last) < WINDOW:
            return
        mean = self._mean_of_last(WINDOW)
        self.first_mean = mean if self.first_mean is None else self.first_mean
        self.is_lowest = self.lowest is None or mean < self.lowest.mean
        self.noise += self.last[-1].noise
        if self.is_lowest:
            first, centre = self.last[-WINDOW], self.last[-WINDOW // 2]
            self.lowest = Window(mean=mean, lr=centre.lr, first=first.number)
            self.noise = math.fsum(seen.noise for seen in islice(self.last, len(self.last) - WINDOW + 1, None))
        self.num_up = self.num_up + 1 if self._is_up(rising.errors) else 0

    def _is_up(self, errors: float) -> bool:
        """Whether the last steps are above the lowest window, to which none of them belongs, by more than noise."""
        assert self.lowest is not None
        assert self.first_mean is not None
        here = self.last[-1]
        num_steps = min(here.number - self.lowest.first - WINDOW + 1, LONGEST)
        if num_steps < WINDOW:
            return False
        variance = self.noise / (here.number - self.lowest.first)
        error = math.sqrt(variance * (1.0 / WINDOW + 1.0 / num_steps))
        up = self._mean_of_last(num_steps) - self.lowest.mean
        return up > max(errors * error, SHARE_OF_GAIN * (self.first_mean - self.lowest.mean))

    def _mean_of_last(self, num_steps: int) -> float:
        return sum(seen.loss for seen in islice(self.last, len(self.last) - num_steps, None)) / num_steps

    def state_dict(self) -> dict[str, Any]:
        """JSON-plain state."""
        lowest = None if self.lowest is None else asdict(self.lowest)
        return {
            "last": [asdict(seen) for seen in self.last],
            "first_mean": self.first_mean,
            "lowest": lowest,
            "noise": self.noise,
            "num_up": self.num_up,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.last = deque((Seen(**seen) for seen in state["last"]), LONGEST)
        self.first_mean, self.noise, self.num_up = state["first_mean"], state["noise"], state["num_up"]
        self.lowest = None if state["lowest"] is None else Window(**state["lowest"])
        self.is_lowest = False
