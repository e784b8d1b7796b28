"""Which losses and gradients are out of line with the last ones, and which of those have come so often that they are
data."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

SPREADS = 3.0
"""A loss above the first one, and above the highest of the last :data:`MEMORY` by this many times their spread, is
garbage or a blow-up."""

MEMORY = 50
"""Steps whose losses and gradient norms are remembered. Outliers are judged once a tenth of them are there."""

LEEWAY = 10.0
"""Each outlier of the last :data:`RETURNS_WITHIN` steps lets one through that is this many times farther out. Garbage
is farther out than data are: of 24 runs with inputs times 1e4 the gradient that was skipped was 1e3 to 1e8 times longer
than any before, of 12 with rare positives 1e2 to 1e4 times (``benchmarks/guarding.py``)."""

RETURNS_WITHIN = 1000
"""Steps for which an outlier is remembered."""


class Outlier(NamedTuple):
    """A step that was out of line; the loss is None where it was not judged."""

    step: int
    loss: float | None
    norm: float


class StepMemory:
    """The losses and gradient norms of the last steps, and what was out of line with them.

    A step whose gradient is zero is not remembered: a batch that has nothing to teach says nothing about those that do.

    Args:
        factor: A gradient this many times longer than the longest remembered one is out of line.

    Example:
        >>> memory = StepMemory(100.0)
        >>> for _ in range(5):
        ...     memory.remember(step=0, loss=None, norm=1.0)
        >>> memory.trouble(step=5, loss=None, norm=500.0)
        'gradient of length 500, over 100 times the longest of the last 5'
        >>> memory.note(step=5, loss=None, norm=500.0)
        >>> memory.trouble(step=9, loss=None, norm=600.0)  # it has come again
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.first_loss: float | None = None
        self.losses: deque[float] = deque(maxlen=MEMORY)
        self.norms: deque[float] = deque(maxlen=MEMORY)
        self.outliers: deque[Outlier] = deque(maxlen=MEMORY)

    def remember(self, *, step: int, loss: float | None, norm: float) -> None:
        """Measure later steps against this one, which is taken."""
        if norm == 0.0:
            return
        if len(self.norms) >= MEMORY // 10 and (self._is_long(norm) or (loss is not None and self._is_high(loss))):
            self.note(step=step, loss=loss, norm=norm)
        self.norms.append(norm)
        if loss is not None:
            self.first_loss = loss if self.first_loss is None else self.first_loss
            self.losses.append(loss)

    def note(self, *, step: int, loss: float | None, norm: float) -> None:
        """Remember an outlier, which may be the first of many."""
        self.outliers.append(Outlier(step, loss, norm))

    def forget_outlier(self, step: int) -> None:
        """An outlier of this step has turned out to be none of the data's."""
        if self.outliers and self.outliers[-1].step == step:
            self.outliers.pop()

    def trouble(self, *, step: int, loss: float | None, norm: float) -> str | None:
        """Why a step is out of line, in words; None if it is not, or comes too often for that."""
        if len(self.norms) < MEMORY // 10:
            return None
        if self._is_long(norm) and norm > self.factor * LEEWAY ** self._num_as_long(step, norm) * max(self.norms):
            return (
                f"gradient of length {norm:.3g}, over {self.factor:g} times the longest of the last {len(self.norms)}"
            )
        if loss is not None and self._is_high(loss) and self._is_high(loss, LEEWAY ** self._num_as_high(step, loss)):
            return f"loss {loss:.3g}, far over the first one and the last {len(self.losses)}"
        return None

    def state_dict(self) -> dict[str, Any]:
        """JSON-plain state."""
        return {
            "first_loss": self.first_loss,
            "losses": list(self.losses),
            "norms": list(self.norms),
            "outliers": [list(outlier) for outlier in self.outliers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved state."""
        self.first_loss = state["first_loss"]
        for kept, saved in ((self.losses, state["losses"]), (self.norms, state["norms"])):
            kept.clear()
            kept.extend(saved)
        self.outliers.clear()
        self.outliers.extend(Outlier(*each) for each in state["outliers"])

    def _is_long(self, norm: float) -> bool:
        return norm > self.factor * max(self.norms)

    def _num_as_long(self, step: int, norm: float) -> int:
        return sum(self.factor * outlier.norm >= norm for outlier in self._recent(step))

    def _is_high(self, loss: float, leeway: float = 1.0) -> bool:
        if len(self.losses) < MEMORY // 10 or self.first_loss is None:
            return False
        highest = max(self.losses)
        return loss > max(self.first_loss, highest + SPREADS * leeway * (highest - min(self.losses)))

    def _num_as_high(self, step: int, loss: float) -> int:
        """Outliers of about this height: a loss is out of line where it is 1 + SPREADS times as high as the highest."""
        lowest = min(self.losses)
        heights = [outlier.loss - lowest for outlier in self._recent(step) if outlier.loss is not None]
        return sum((1.0 + SPREADS) * height >= loss - lowest for height in heights)

    def _recent(self, step: int) -> list[Outlier]:
        return [outlier for outlier in self.outliers if step - outlier.step < RETURNS_WITHIN]
