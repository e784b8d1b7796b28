"""Which losses and gradients are out of line with the last ones, and which come so often that they are data."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dcao.layout import ShardedLayout, layout_of
from dcao.shards import whole_value
from dcao.vectors import entries_of

SPREADS = 3.0
"""A loss above the first one, and above the highest of the last :data:`MEMORY` by this many times their spread, is
garbage or a blow-up."""

MEMORY = 50
"""Steps whose losses and gradient norms are remembered. Outliers are judged once a tenth of them are there."""

RETURNS_WITHIN = 1000
"""Steps for which an outlier is remembered. What comes less often than three times in them is always skipped;
it would be seen too seldom to be learnt."""


class Outlier(NamedTuple):
    """A step that was out of line; the loss is None where it is not known."""

    step: int
    loss: float | None
    norm: float


class StepMemory:
    """The losses and gradient norms of the last steps, and what was out of line with them.

    A step whose gradient is zero is not remembered: a batch that has nothing to teach says nothing about those that do.

    Args:
        factor: A gradient this many times longer than the longest remembered one is out of line. Outliers of one kind
            differ by no more than that.
        patience: An outlier is data once this many of its kind have come before.

    Example:
        >>> memory = StepMemory(factor=100.0, patience=1)
        >>> for step in range(5):
        ...     _ = memory.remember(step=step, loss=None, norm=1.0)
        >>> memory.trouble(step=5, loss=None, norm=500.0)
        'gradient of length 500, over 100 times the longest of the last 5'
        >>> memory.note(step=5, loss=None, norm=500.0)
        >>> memory.trouble(step=9, loss=None, norm=600.0) is None  # it has come again
        True
    """

    def __init__(self, *, factor: float, patience: int) -> None:
        self.factor, self.patience = factor, patience
        self.first_loss: float | None = None
        self.losses: deque[float] = deque(maxlen=MEMORY)
        self.norms: deque[float] = deque(maxlen=MEMORY)
        self.outliers: deque[Outlier] = deque(maxlen=MEMORY)

    def trouble(self, *, step: int, loss: float | None, norm: float) -> str | None:
        """Why a step is out of line, in words; None if it is not, or if it is data."""
        if self._is_long(norm) and self._num_as_long(step, norm) < self.patience:
            times = f"{self.factor:g} times the longest of the last {len(self.norms)}"
            return f"gradient of length {norm:.3g}, over {times}"
        if loss is not None and self._is_high(loss) and self._num_as_high(step, loss) < self.patience:
            return f"loss {loss:.3g}, far over the first one and the last {len(self.losses)}"
        return None

    def is_usual(self, *, loss: float | None, norm: float) -> bool:
        """Whether a step is far from being out of line: of what is allowed, by the root of the factor or one spread."""
        if len(self.losses) >= MEMORY // 10 and loss is not None and loss > 2.0 * max(self.losses) - min(self.losses):
            return False
        return not self.norms or norm <= math.sqrt(self.factor) * max(self.norms)

    def remember(self, *, step: int, loss: float | None, norm: float) -> bool:
        """Measure later steps against this one, which is taken; returns whether it is out of line all the same."""
        if norm == 0.0:
            return False
        is_outlier = self._is_long(norm) or (loss is not None and self._is_high(loss))
        if is_outlier:
            self.note(step=step, loss=loss, norm=norm)
        self.norms.append(norm)
        if loss is not None:
            self.first_loss = loss if self.first_loss is None else self.first_loss
            self.losses.append(loss)
        return is_outlier

    def note(self, *, step: int, loss: float | None, norm: float) -> None:
        """Remember an outlier, which may be one of many."""
        self.outliers.append(Outlier(step, loss, norm))

    def forget_outlier(self, step: int) -> None:
        """Forget the last outlier if it is of this step: it was not the data's."""
        if self.outliers and self.outliers[-1].step == step:
            self.outliers.pop()

    def state_dict(self) -> dict[str, Any]:
        """JSON-plain state."""
        return {
            "first_loss": self.first_loss,
            "losses": list(self.losses),
            "norms": list(self.norms),
            "outliers": [list(outlier) for outlier in self.outliers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.first_loss = state["first_loss"]
        self.losses = deque(state["losses"], MEMORY)
        self.norms = deque(state["norms"], MEMORY)
        self.outliers = deque((Outlier(*each) for each in state["outliers"]), MEMORY)

    def _is_long(self, norm: float) -> bool:
        return len(self.norms) >= MEMORY // 10 and norm > self.factor * max(self.norms)

    def _is_high(self, loss: float) -> bool:
        if len(self.losses) < MEMORY // 10 or self.first_loss is None:
            return False
        highest = max(self.losses)
        return loss > max(self.first_loss, highest + SPREADS * (highest - min(self.losses)))

    def _num_as_long(self, step: int, norm: float) -> int:
        return sum(self.factor * outlier.norm >= norm for outlier in self._recent(step))

    def _num_as_high(self, step: int, loss: float) -> int:
        lowest = min(self.losses)  # heights are over this one: a loss may be negative
        heights = [outlier.loss - lowest for outlier in self._recent(step) if outlier.loss is not None]
        return sum(self.factor * height >= loss - lowest for height in heights)

    def _recent(self, step: int) -> list[Outlier]:
        return [outlier for outlier in self.outliers if step - outlier.step < RETURNS_WITHIN]


@torch.no_grad()
def loss_and_norm(loss: Tensor | float | None, grads: Sequence[Tensor]) -> tuple[float | None, float]:
    """The loss as a number, and the Euclidean norm of all gradients together; the device is waited for once.

    Of sharded gradients it is the mean loss of the ranks, None unless all of them know theirs.

    Example:
        >>> loss_and_norm(torch.tensor(1.5), [torch.tensor([3.0]), torch.tensor([4.0])])
        (1.5, 5.0)
    """
    layout = layout_of(grads)
    if isinstance(layout, ShardedLayout):
        counted = [grad for grad, counts in zip(grads, layout.counts, strict=True) if counts]
        return _over_ranks(loss, [entries_of(grad) for grad in counted], layout)
    entries = [entries_of(g) for g in grads]
    norm = _norm(entries)
    if isinstance(loss, Tensor):
        value, length = torch.stack([loss.detach().reshape(()).to(norm), norm]).tolist()
    else:
        value, length = None if loss is None else float(loss), float(norm)
    return value, length if _is_inside(length) else float(_norm(entries, torch.float64))


def _is_inside(length: float) -> bool:
    """Whether float32 holds the squares of what has this length."""
    return 1e-18 < length < math.inf


def _over_ranks(
    loss: Tensor | float | None, entries: Sequence[Tensor], layout: ShardedLayout
) -> tuple[float | None, float]:
    known = loss is not None
    own = float(whole_value(loss.detach() if isinstance(loss, Tensor) else loss)) if known else 0.0
    norm = float(_norm(entries))
    squares, losses, num_known, num_ranks = layout.add_up([norm * norm, own, float(known), 1.0])
    length = math.sqrt(squares)
    if not _is_inside(length):
        length = math.sqrt(layout.add_up([float(_norm(entries, torch.float64).square())])[0])
    return losses / num_ranks if num_known == num_ranks else None, length


def _norm(entries: Sequence[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    norms: list[Tensor] = []
    for is_narrow in (True, False):  # squares of half precision overflow
        same = [g for g in entries if g.numel() and (g.dtype.itemsize < 4) is is_narrow]
        norms += torch._foreach_norm(same, dtype=torch.float32 if is_narrow and not dtype else dtype) if same else []
    norms = [norm.to(norms[0].device) for norm in norms]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())  # stack takes the widest dtype
