"""``find_lr``: one number for a bare optimizer with warmup and cosine, from a rise that leaves no trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

from torch import Tensor
from torch.optim import Optimizer

from dcao import options
from dcao.checks import require_whole
from dcao.finding.search import RisePoint, Search
from dcao.finding.untouched import generators_of, untouched
from dcao.groups import lrs_of, set_lrs
from dcao.optimizer import DCAO
from dcao.policies.fixed import Fixed
from dcao.probing.estimate import CurvatureEstimate
from dcao.probing.ranks import mean_loss
from dcao.rounding import rounded
from dcao.telling.notices import warn
from dcao.uncompiled import uncompiled

B = TypeVar("B")

FIRST_RELATIVE_STEP = 1e-3
"""Relative step at which the rise starts: a hundredth of what the best lrs have."""

GROWTH = 1.1
"""Factor on lr from one step to the next, as in the rise of :class:`dcao.policies.Ceiling`."""


@dataclass(frozen=True, kw_only=True)
class FoundLr:
    """A learning rate, the reason for it, and the rise that it was read from.

    Attributes:
        lr: Largest lr for a run with warmup and cosine, of the group with the largest; None if none was found.
        lrs: The same for each param group, in the ratios that the groups had; empty if none was found.
        reason: Which limit was met, in words; if none was found, why, and what to do.
        s: Stability number at ``lr``: the median of the last probes.
        relative_step: Relative step at ``lr``: the root mean square of the last probes.
        agreement: Cosine of successive batches' gradients at ``lr``: the mean of the last probes.
        cost: Gradient evaluations spent, the steps of the rise included.
        curve: The steps of the rise.
    """

    lr: float | None
    lrs: tuple[float, ...] = ()
    reason: str
    s: float | None = None
    relative_step: float | None = None
    agreement: float | None = None
    cost: float
    curve: tuple[RisePoint, ...]


@uncompiled
def find_lr(
    optimizer: Optimizer,
    batches: Iterable[B],
    loss_fn: Callable[[B], Tensor],
    *,
    num_steps: int = 100,
) -> FoundLr:
    """The largest lr for a run of this optimizer with warmup and cosine, and why.

    Trains on your batches while lr rises from next to nothing by a tenth a step, probes at each step, and stops where
    steps are clearly too long, usually after 40 to 70 steps. Then everything is put back bit for bit: weights,
    optimizer state, buffers, gradients, modes, random streams, lrs, and state that ``loss_fn`` reaches. The lr that the
    groups have does not matter, only its ratios between groups.

    What cannot be put back is the position of an iterator, and what a data set counts for itself: give a ``DataLoader``
    or another iterable that can be gone through again, not ``iter(loader)``. Step hooks of the optimizer run as in
    training; :func:`dcao.is_probing` says True meanwhile. Gradients are not clipped: for SGD with a clip that is active
    all the time the number is on the safe side.

    Args:
        optimizer: A plain optimizer that DCAO knows: SGD, Adam, AdamW, NAdam, RMSprop or Adagrad of torch, or one of
            :func:`dcao.register_optimizer`. It may have trained before.
        batches: Training batches, in any form; gone through again where they end, if they can be.
        loss_fn: Returns the scalar loss of a batch, with its graph, and does not call backward.
        num_steps: Most steps of the rise. Default: 100, in which lr grows by a factor of 12000.

    Returns:
        The lr, the reason and the curve. If no limit was met, ``lr`` is None, and a warning says why.

    Raises:
        TypeError, ValueError: On a wrong argument, with the rule, the value and the fix.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(8, 1)
        >>> x, y = torch.randn(64, 8), torch.randn(64, 1)
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> found = find_lr(optimizer, [(x, y)], lambda batch: (model(batch[0]) - batch[1]).square().mean())
        >>> found.reason
        'the relative step reached 0.12: 0.12'
        >>> 0.001 < found.lr < 0.1
        True
    """
    _check(optimizer, batches, loss_fn, num_steps)
    stream = _Stream(batches)
    rise = _Rise(DCAO(optimizer, policy=Fixed(), every=1, guard=False), loss_fn)
    with untouched(optimizer, loss_fn, generators_of(batches)):
        rise.run(stream, num_steps)
    return rise.result(ran_dry=stream.ran_dry)


class _Rise(Generic[B]):
    """The rise itself."""

    def __init__(self, watched: DCAO, loss_fn: Callable[[B], Tensor]) -> None:
        self.watched, self.loss_fn = watched, loss_fn
        self.search, self.why_not = Search(), ""
        given = lrs_of(watched.base)
        if max(given) <= 0.0:  # of a scheduler that warms up from 0
            given = [float(group.get("initial_lr", 0.0)) for group in watched.base.param_groups]
        self.top = max(given)
        self.ratios = [lr / self.top for lr in given]
        self.num_steps = 0

    def run(self, stream: _Stream[B], num_steps: int) -> None:
        """Train until the search is over, the steps are, or the batches are."""
        lr: float | None = None
        for batch in stream.take(num_steps):
            lr = self._first_lr(batch) if lr is None else lr * GROWTH
            if lr is None:
                return
            self._step(batch, lr)
            if self.search.is_over:
                return

    def result(self, *, ran_dry: bool) -> FoundLr:
        """What was found; a warning if nothing was."""
        cost, curve = self.num_steps + self.watched.probe_cost, tuple(self.search.curve)
        found = self.search.found
        if found is not None:
            lrs = tuple(found.lr * ratio for ratio in self.ratios)
            return FoundLr(cost=cost, curve=curve, lrs=lrs, **asdict(found))
        reason = self.why_not or self.search.why_nothing(ran_dry=ran_dry)
        if not self.watched.loop.probe.is_held:  # a loss that does not repeat: the caller has been told
            warn(f"find_lr found no lr: {reason}")
        return FoundLr(lr=None, reason=reason, cost=cost, curve=curve)

    def _first_lr(self, batch: B) -> float | None:
        """The lr at which the relative step is the first; None if it cannot be measured."""
        self._write(self.top)
        estimate = self.watched.probe(partial(self.loss_fn, batch))
        length = estimate.relative_step
        if length is None or not 0.0 < length < math.inf:
            because = f": {estimate.reason}" if estimate.reason else ""
            self.why_not = f"the first batch's step could not be measured{because}. Fix: look at its loss and gradient"
            return None
        return rounded(self.top * FIRST_RELATIVE_STEP / length)

    def _step(self, batch: B, lr: float) -> None:
        self._write(lr)
        before = self.watched.last_estimate
        loss = self.watched.minimize(partial(self.loss_fn, batch))
        self.num_steps += 1
        estimate = self.watched.last_estimate
        ranks = self.watched.loop.probe.model.look()[1]
        number = float(loss) if ranks is None else mean_loss(loss, ranks)
        self.search.note(_point(lr, number, None if estimate is before else estimate))

    def _write(self, lr: float) -> None:
        set_lrs(self.watched.base, [lr * ratio for ratio in self.ratios])


def _point(lr: float, loss: float, estimate: CurvatureEstimate | None) -> RisePoint:
    if estimate is None:
        return RisePoint(lr=lr, loss=loss, s=None, relative_step=None, agreement=None)
    s = None if estimate.s is None or math.isnan(estimate.s) else estimate.s
    length = estimate.relative_step
    length = length if length is not None and math.isfinite(length) else None
    return RisePoint(lr=lr, loss=loss, s=s, relative_step=length, agreement=estimate.agreement)


class _Stream(Generic[B]):
    """Batches one after another, from the beginning again where they end, if they can be."""

    def __init__(self, batches: Iterable[B]) -> None:
        self.batches, self.ran_dry = batches, False

    def take(self, num_batches: int) -> Iterator[B]:
        """So many of them, or as many as there are."""
        num_left = num_batches
        while num_left > 0:
            before = num_left
            for batch in islice(self.batches, num_left):
                num_left -= 1
                yield batch
            if num_left == before:
                self.ran_dry = True
                break
        if num_left == num_batches:
            raise ValueError("batches must give at least one batch, got none; an iterator that has ended gives no more")


def _check(optimizer: object, batches: object, loss_fn: object, num_steps: object) -> None:
    """Raise an error for a wrong argument; what DCAO itself refuses, it refuses right after."""
    if isinstance(optimizer, DCAO):
        raise TypeError("optimizer must be the plain one, got DCAO, which finds its lr by itself; pass optimizer.base")
    if not isinstance(optimizer, Optimizer):
        got = f"the class {optimizer.__name__}" if isinstance(optimizer, type) else type(optimizer).__name__
        raise TypeError(
            f"optimizer must be a torch.optim.Optimizer, got {got}; build one, as in "
            "torch.optim.AdamW(model.parameters())"
        )
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches must be an iterable of training batches, got {type(batches).__name__}")
    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be a function that returns the loss of a batch, got {type(loss_fn).__name__}")
    require_whole("num_steps", num_steps, "step")
    options.find_record(optimizer, needed=True, probed=True)
