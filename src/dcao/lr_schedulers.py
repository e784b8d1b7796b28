"""Learning-rate schedulers of torch that are built on an optimizer: found without a reference to them, and their tops.

The *top* of a scheduler is the lr that its shape is measured against. A scheduler that starts at its largest lr and
falls has it in ``initial_lr``, and so has one that warms up to the lr that the optimizer was built with; the others
keep it elsewhere (the table is in ``docs/how-to.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.optim.swa_utils import SWALR

from dcao.isolation import live_instances

_FROM_INITIAL_LR = (
    StepLR,
    MultiStepLR,
    ConstantLR,
    ExponentialLR,
    PolynomialLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
)
"""Those that reach ``initial_lr`` and never exceed it. A LambdaLR may do as it likes."""


@dataclass(frozen=True, kw_only=True)
class Drivers:
    """Who else writes the lr of an optimizer's groups.

    Attributes:
        kind: ``"scheduler"``; ``"metric"`` for one that waits for a metric, and so plans no course; ``"hand"``.
        tops: The lr of each group at the top of the shape; None: what is there before it is written for the first time.
        is_certain: Whether the shape is sure to reach its top and not to exceed it.
    """

    kind: str
    tops: list[float] | None
    is_certain: bool


def has_scheduler(optimizer: Optimizer) -> bool:
    """Whether an ``LRScheduler`` has been built on this optimizer: it leaves ``initial_lr`` in the groups."""
    return any("initial_lr" in group for group in optimizer.param_groups)


def schedulers_of(optimizer: Optimizer) -> list[LRScheduler]:
    """The living ``LRScheduler`` objects that drive these groups, found among the garbage collector's objects.

    ``ReduceLROnPlateau`` leaves no mark on the groups. Without this search it would first cut an lr that DCAO wrote.
    """
    groups = optimizer.param_groups
    schedulers = live_instances(LRScheduler)
    return [each for each in schedulers if getattr(each.__dict__.get("optimizer"), "param_groups", None) is groups]


def drivers_of(optimizer: Optimizer) -> Drivers:
    """Who writes the lr of this optimizer's groups beside DCAO, and the lr that its shape is measured against.

    Example:
        >>> import torch
        >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        >>> scheduler = OneCycleLR(sgd, max_lr=0.5, total_steps=100)
        >>> drivers_of(sgd)
        Drivers(kind='scheduler', tops=[0.5], is_certain=True)
    """
    groups = optimizer.param_groups
    schedulers = _who_wrote(schedulers_of(optimizer), [float(group["lr"]) for group in groups])
    plans = [each for each in schedulers if not isinstance(each, ReduceLROnPlateau)]
    is_marked = has_scheduler(optimizer)
    if not plans:
        kind = "metric" if schedulers else "scheduler" if is_marked else "hand"
        tops = [_top_left_in(group) for group in groups] if is_marked else None
        return Drivers(kind=kind, tops=tops, is_certain=kind == "metric")
    by_scheduler = zip(*(_tops_of(each, groups) for each in plans), strict=True)
    tops = [max(tops) for tops in by_scheduler]
    return Drivers(kind="scheduler", tops=tops, is_certain=all(_is_certain(each) for each in plans))


def _who_wrote(schedulers: Sequence[LRScheduler], lrs: list[float]) -> Sequence[LRScheduler]:
    """Those that say that they have written these lrs; all if none does.

    One that was given up, and has not been collected yet, says another lr.
    """
    wrote = [each for each in schedulers if [float(lr) for lr in getattr(each, "_last_lr", ())] == lrs]
    return wrote or schedulers


def _tops_of(scheduler: LRScheduler, groups: Sequence[dict[str, Any]]) -> list[float]:
    if isinstance(scheduler, (SequentialLR, ChainedScheduler)):
        parts = (_tops_of(each, groups) for each in scheduler._schedulers)
        return [max(tops) for tops in zip(*parts, strict=True)]
    if isinstance(scheduler, OneCycleLR):
        return [_top_left_in(group) for group in groups]
    if isinstance(scheduler, CyclicLR):
        return _of_each(scheduler.max_lrs, groups)
    initial = _of_each(scheduler.base_lrs, groups)
    if isinstance(scheduler, SWALR):
        return [max(lr, float(group.get("swa_lr", 0.0))) for lr, group in zip(initial, groups, strict=True)]
    if isinstance(scheduler, LinearLR):
        return [lr * max(scheduler.start_factor, scheduler.end_factor) for lr in initial]
    return initial


def _of_each(lrs: Sequence[float | Tensor], groups: Sequence[dict[str, Any]]) -> list[float]:
    """One lr a group; where groups have come or gone since the scheduler was built, what is left in them."""
    if len(lrs) == len(groups):
        return [float(lr) for lr in lrs]
    return [_top_left_in(group) for group in groups]


def _top_left_in(group: dict[str, Any]) -> float:
    """What schedulers have left in a group; its lr if none has."""
    largest = max(float(group.get("initial_lr", 0.0)), float(group.get("max_lr", 0.0)))
    return largest if largest > 0.0 else float(group["lr"])


def _is_certain(scheduler: LRScheduler) -> bool:
    if isinstance(scheduler, SequentialLR):
        return all(_is_certain(each) for each in scheduler._schedulers)
    return isinstance(scheduler, (*_FROM_INITIAL_LR, CyclicLR, LinearLR, OneCycleLR, SWALR))
