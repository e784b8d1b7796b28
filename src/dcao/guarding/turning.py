"""The rise of the learning rate as a range test: has the mean training loss turned up for good?

While lr rises, the loss falls faster and faster, until steps are too long and it turns up. A pretrained network forgets
in these few steps what no later step brings back. So the mean loss is watched in windows, and where it has turned up
the run goes back to its lowest window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

WINDOW = 8
"""Steps whose losses are averaged: lr grows by a factor of 2 in them at most."""

ERRORS = 5.0
"""Standard errors of the difference of two windows by which the loss has to be up. At 4, one of three runs of a
diffusion task was taken back without need; at 5 none was."""

SHARE_OF_GAIN = 0.2
"""Share of what the loss had gained by which it has to be up. Momentum carries weights across a valley and back: on
quadratics, with a momentum of 0.9 and an lr that rises by 10 % a step, four windows in a row swing up by 10 % of the
gain, and single ones by 21 %, but no two by 20 %."""

LASTING = 3
"""Windows in a row that have to be up. Three runs of fine-tuning are caught by three and are lost with four to eight;
alarms without need (a diffusion task, a deep MLP) lasted for one. Of runs of 100 steps on nothing but noise around a
loss that does not fall, 2.5 % give an alarm, and with eight windows 0.3 %; where it falls at all, none of 12000 did but
one."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Losses of some steps in a row.

    Attributes:
        mean: Their mean.
        variance: Their variance.
        lr: The lr at its centre.
        end: Number of steps seen before the one after it.
    """

    mean: float
    variance: float
    lr: float
    end: int


class TurningPoint:
    """Watches the losses of successive steps, and the lr that each is trained with.

    Example:
        >>> loss = TurningPoint()
        >>> for step in range(16):  # falls, with some noise
        ...     loss.note(20.0 - step + step % 2, lr=1.1**step)
        >>> loss.is_lowest, loss.has_turned
        (True, False)
        >>> for step in range(18):  # and rises
        ...     loss.note(10.0 + step, lr=1.1 ** (16 + step))
        >>> loss.has_turned, loss.lowest.mean, round(loss.lowest.lr / 1.1**14, 6)
        (True, 8.625, 1.0)
    """

    def __init__(self) -> None:
        self.num_steps = 0
        self.last: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self.first_mean: float | None = None
        self.lowest: Window | None = None
        self.is_lowest = False
        self.num_up = 0

    @property
    def has_turned(self) -> bool:
        """Whether the loss has turned up for good."""
        return self.num_up >= LASTING

    def note(self, loss: float, lr: float) -> None:
        """Note the loss of a step, and the lr of that step; a loss that is not finite says nothing."""
        if not math.isfinite(loss):
            return
        self.num_steps += 1
        self.last.append((loss, lr))
        if len(self.last) < WINDOW:
            return
        mean, variance = _moments([loss for loss, _ in self.last])
        self.first_mean = mean if self.first_mean is None else self.first_mean
        self.is_lowest = self.lowest is None or mean < self.lowest.mean
        if self.is_lowest:
            self.lowest = Window(mean=mean, variance=variance, lr=self.last[WINDOW // 2][1], end=self.num_steps)
        self.num_up = self.num_up + 1 if self._is_up(mean, variance) else 0

    def _is_up(self, mean: float, variance: float) -> bool:
        """Whether the last window is above the lowest one, of which it has no step, by more than noise."""
        assert self.lowest is not None
        assert self.first_mean is not None
        overlaps = self.num_steps - WINDOW < self.lowest.end
        error = math.sqrt((variance + self.lowest.variance) / WINDOW)
        up, gained = mean - self.lowest.mean, self.first_mean - self.lowest.mean
        return not overlaps and up > max(ERRORS * error, SHARE_OF_GAIN * gained)

    def state_dict(self) -> dict[str, Any]:
        """JSON-plain state."""
        lowest = None if self.lowest is None else asdict(self.lowest)
        first, last = self.first_mean, [list(each) for each in self.last]
        numbers = {"num_steps": self.num_steps, "num_up": self.num_up}
        return {**numbers, "last": last, "first_mean": first, "lowest": lowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.num_steps, self.num_up, self.first_mean = state["num_steps"], state["num_up"], state["first_mean"]
        self.last = deque(((float(loss), float(lr)) for loss, lr in state["last"]), WINDOW)
        self.lowest = None if state["lowest"] is None else Window(**state["lowest"])
        self.is_lowest = False


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Mean and variance; infinite where they are too large for a number, where ``statistics`` raises."""
    mean = sum(values) / len(values)
    return mean, sum((each - mean) * (each - mean) for each in values) / len(values)
