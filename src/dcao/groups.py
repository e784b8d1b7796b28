"""The param groups from one step to the next: which are new, which are gone, and the lr that a new one trains at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

T = TypeVar("T")


class Roster:
    """Remembers which param groups an optimizer had, and the lr that each was given.

    Groups are told apart by identity. After a load, which replaces all of them, their order counts.

    Args:
        optimizer: The base optimizer, live.

    Attributes:
        given: The lr that the caller gave each group in this process, whatever it trains at now.

    Example:
        >>> import torch
        >>> layers = [torch.nn.Linear(1, 1) for _ in range(3)]
        >>> sgd = torch.optim.SGD([{"params": layer.parameters()} for layer in layers[:2]], lr=0.1)
        >>> roster = Roster(sgd)
        >>> del sgd.param_groups[0]
        >>> sgd.add_param_group({"params": layers[2].parameters()})
        >>> roster.update()  # the second of before, and a new one
        [1, None]
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.given = lrs_of(optimizer)
        self._known = list(optimizer.param_groups)

    def update(self) -> list[int | None] | None:
        """Where each group was before, None for a new one; None if they are the same as before."""
        groups, known = self.optimizer.param_groups, self._known
        if len(groups) == len(known) and all(now is before for now, before in zip(groups, known, strict=True)):
            return None
        position = {id(group): index for index, group in enumerate(known)}
        origins = [position.get(id(group)) for group in groups]
        if all(origin is None for origin in origins):
            origins = [index if index < len(known) else None for index in range(len(groups))]
        self.given = carry(self.given, origins, lrs_of(self.optimizer))
        self._known = list(groups)
        return origins

    def scale_added(self, origins: Sequence[int | None], training: Sequence[float]) -> None:
        """Bring new groups to the scale of the others; ``training`` is what each group trains at."""
        old = [index for index, origin in enumerate(origins) if origin is not None]
        if not old:
            return
        given, trains = [self.given[index] for index in old], [training[index] for index in old]
        for index, (group, lr) in enumerate(zip(self._known, training, strict=True)):
            if origins[index] is None:
                self.given[index] = lr_as_given(lr, given, trains)
                write_own_lr(group, lr_of_added(self.given[index], given, trains))


def carry(values: Sequence[T], origins: Sequence[int | None], new: Sequence[T]) -> list[T]:
    """One value a group: the one that it had where it was before, or its entry of ``new``.

    Example:
        >>> carry(["a", "b"], [1, None], ["x", "y"])
        ['b', 'y']
    """
    return [new[index] if origin is None else values[origin] for index, origin in enumerate(origins)]


def lr_as_given(lr: float, given: Sequence[float], training: Sequence[float]) -> float:
    """The lr of a new group in the terms of what the others were given; one that another trains at was copied from it.

    Example:
        >>> lr_as_given(1e-3, given=[1e-3], training=[0.5]), lr_as_given(0.5, given=[1e-3], training=[0.5])
        (0.001, 0.001)
    """
    return given[training.index(lr)] if lr in training and lr not in given else lr


def lr_of_added(lr: float, given: Sequence[float], training: Sequence[float]) -> float:
    """The lr at which a group that was given ``lr`` has to train among others.

    Groups that were given the same lr train at the same, bit for bit; other ratios are kept.

    Args:
        lr: What the new group was given.
        given: What the others were given.
        training: What they train at.

    Example:
        >>> lr_of_added(1e-3, given=[1e-3], training=[0.5])
        0.5
        >>> lr_of_added(1e-4, given=[1e-3], training=[0.5])
        0.05
    """
    if lr in given:
        return training[given.index(lr)]
    reference = max(range(len(given)), key=given.__getitem__)
    return lr * training[reference] / given[reference] if given[reference] > 0.0 else lr


def write_own_lr(group: dict[str, Any], lr: float) -> None:
    """Write the lr of a new group. A tensor may be shared with other groups, so the new one gets its own."""
    held = group["lr"]
    group["lr"] = held.detach().clone().fill_(lr) if isinstance(held, Tensor) else lr


def as_stored(holder: float | Tensor, lr: float) -> float:
    """``lr`` as it reads from the group: a tensor lr (capturable) rounds to its dtype, here without waiting for it."""
    return float(torch.tensor(lr, dtype=holder.dtype)) if isinstance(holder, Tensor) else lr


def lrs_of(optimizer: Optimizer) -> list[float]:
    """The lr that each group holds."""
    return [float(group["lr"]) for group in optimizer.param_groups]


class GroupLrs:
    """The lrs that somebody has left in the groups, also while the groups hold others for a moment.

    Args:
        optimizer: The base optimizer, live.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._aside: list[float] | None = None

    def read(self) -> list[float]:
        """One lr for each group; a hook of the step may ask for them too."""
        return lrs_of(self.optimizer) if self._aside is None else list(self._aside)

    @contextmanager
    def replaced(self, lrs: Sequence[float] | None) -> Iterator[None]:
        """Context in which the groups hold these lrs; nothing is written for None, or if they do already."""
        before = None if lrs is None else lrs_of(self.optimizer)  # a tensor lr is read from its device
        if lrs is None or before is None or list(lrs) == before:
            yield
            return
        outer, self._aside = self._aside, before if self._aside is None else self._aside
        set_lrs(self.optimizer, lrs)
        try:
            yield
        finally:
            set_lrs(self.optimizer, before)
            self._aside = outer


def set_lrs(optimizer: Optimizer, lrs: Sequence[float]) -> None:
    """Write the lr of each group."""
    with torch.no_grad():
        for group, lr in zip(optimizer.param_groups, lrs, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)  # in place: a captured graph reads this tensor
            else:
                group["lr"] = lr
