"""Learning-rate schedulers of torch that are built on an optimizer, found without a reference to them."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dcao.isolation import live_instances


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
