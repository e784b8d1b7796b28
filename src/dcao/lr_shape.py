"""The shape that a scheduler, or whoever else writes lr, gives to it: followed from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dcao.checkpoints import kinds_of, require_kinds, require_lengths
from dcao.lr_schedulers import Drivers
from dcao.policies.base import LrShape

NOISE = 1e-9
"""Relative difference of two lrs that is none: a scheduler multiplies its way down, and rounds at every step."""

MANY = 10
"""Times that somebody lowers lr by hand before it counts as a schedule: once or twice it is a cut, for good."""


@dataclass(kw_only=True)
class ShapeFollower:
    """Knows what each group trains at: its *level*, which is DCAO's, times the present share of the shape's top.

    The nominal lr in the groups is left to its writer. A nominal lr above the top raises the top. A shape of which
    nobody knows how high it leads, and which has risen and falls before it reaches its top, has been at it.

    Attributes:
        kind: Who writes lr, as in :class:`dcao.lr_schedulers.Drivers`.
        is_certain: Whether the shape is sure to reach its top.
        tops: Nominal lr of each group at the top of the shape.
        levels: What each group trains at there.
        is_dcaos: Whether DCAO has set the levels; if not, training follows the nominal lr wherever it goes.
        share: Present part of the top, from 0 to 1; with several groups the largest of any.
        peak: Largest share that has been seen.
        has_risen: Whether the share has ever risen.
        num_falls: How often it has been seen to fall.
        largest: The largest lr that DCAO has let train.

    Example:
        >>> warmup = ShapeFollower(kind="scheduler", is_certain=True, tops=[0.1], levels=[0.1])
        >>> warmup.follow([0.02])
        >>> warmup.set_levels([3.0])
        >>> round(warmup.training([0.02])[0], 9)  # a fifth of the top
        0.6
    """

    kind: str
    is_certain: bool
    tops: list[float]
    levels: list[float]
    is_dcaos: bool = False
    share: float | None = None
    peak: float = 0.0
    has_risen: bool = False
    num_falls: int = 0
    largest: float = 0.0

    @classmethod
    def of(cls, drivers: Drivers, before: Sequence[float], *, is_dcaos: bool) -> ShapeFollower:
        """One that has followed nothing yet.

        Args:
            drivers: Who writes lr.
            before: What each group trained at before.
            is_dcaos: Whether DCAO had set that; if not, the nominal lr trains as it is.
        """
        tops = list(before if drivers.tops is None else drivers.tops)
        levels = list(before if is_dcaos else tops)
        follower = cls(kind=drivers.kind, is_certain=drivers.is_certain, tops=tops, levels=levels, is_dcaos=is_dcaos)
        if is_dcaos and drivers.tops is None:  # what comes now is a part of what DCAO has come to
            follower.is_certain, follower.share = True, 1.0
        follower.largest = max(before) if is_dcaos else 0.0
        return follower

    # --- reading ----------------------------------------------------------------------------------------------

    def training(self, nominal: Sequence[float]) -> list[float]:
        """The lr of each group in the coming step."""
        groups = zip(nominal, self.levels, self.tops, strict=True)
        return [lr if level == top else lr * (level / top) if top > 0.0 else 0.0 for lr, level, top in groups]

    def at_top(self, nominal: Sequence[float]) -> list[float]:
        """The same at the top of the shape, with the ratios that groups have now: what probes measure at."""
        shares = self._shares(nominal)
        largest = max(shares)
        if largest == 0.0:
            return list(self.levels)
        return [level * (share / largest) for level, share in zip(self.levels, shares, strict=True)]

    def seen(self) -> LrShape:
        """What a policy is told."""
        share = 1.0 if self.share is None else self.share
        return LrShape(
            share=share,
            rise=share * max(self.levels) / self.largest if self.largest > 0.0 else 1.0,
            is_warmup=share < 1.0 and self.num_falls == 0,
            decays=self.num_falls >= {"scheduler": 1, "hand": MANY}.get(self.kind, float("inf")),
        )

    # --- following --------------------------------------------------------------------------------------------

    def follow(self, nominal: Sequence[float]) -> None:
        """Look at the nominal lrs of the coming step."""
        self._thaw(nominal)
        largest = max(self._shares(nominal))
        if largest > 1.0 + NOISE:
            self.has_risen = True
            self._move_tops(largest, with_levels=not self.is_dcaos)
            largest = 1.0
        share = float(f"{min(largest, 1.0):.9g}")  # the rounding of a product with the lr that was given is left out
        before, self.share = self.share, share
        self.has_risen = self.has_risen or (before is not None and share > before)
        self.num_falls += before is not None and share < before
        self.peak = max(self.peak, share)
        if self.has_risen and self.num_falls and 0.0 < self.peak < 1.0 and not self.is_certain:
            self._move_tops(self.peak, with_levels=True)
            self.share, self.peak = share / self.peak, 1.0

    def set_levels(self, levels: Sequence[float]) -> None:
        """Take over DCAO's lrs for the top of the shape."""
        self.levels, self.is_dcaos = list(levels), True

    @property
    def is_at_schedule(self) -> bool:
        """Whether a group trains at its nominal lr or above."""
        return any(level >= top * (1.0 - NOISE) for level, top in zip(self.levels, self.tops, strict=True))

    def keep_below(self) -> bool:
        """Let nothing train above its nominal lr; returns whether anything would have."""
        multiples = [self._multiple(index) for index in range(len(self.tops))]
        excess = max(multiples)
        if excess > 1.0:  # a group that exceeds it most trains at exactly the nominal lr
            groups = zip(self.levels, self.tops, multiples, strict=True)
            self.levels = [top if multiple == excess else level / excess for level, top, multiple in groups]
        return excess > 1.0

    def note_set(self) -> None:
        """DCAO has chosen its lrs for the coming step."""
        self.largest = max(self.largest, (self.share or 0.0) * max(self.levels))

    def rearrange(self, origins: Sequence[int | None], nominal: Sequence[float]) -> None:
        """Follow groups that have moved; a new one trains at the same multiple of its nominal lr as the others."""
        old = [origin for origin in origins if origin is not None]
        if not old:
            return
        at = {lr: origin for lr, origin in zip(nominal, origins, strict=True) if origin is not None}
        reference = max(old, key=self.levels.__getitem__)
        tops, levels = [], []
        for lr, origin in zip(nominal, origins, strict=True):
            like = at.get(lr) if origin is None else origin  # groups with the same lr go on to train at the same
            top = lr / (self.share or 1.0) if like is None else self.tops[like]
            tops.append(top)
            levels.append(top * self._multiple(reference) if like is None else self.levels[like])
        self.tops, self.levels = tops, levels

    def state_dict(self) -> dict[str, Any]:
        """JSON-plain state, from which the constructor makes the same again."""
        return asdict(self)

    @classmethod
    def check(cls, state: Any, where: str, *, num_groups: int) -> None:
        """Raise a ValueError unless a saved state, which lies there, is one of so many groups."""
        require_kinds(
            state, kinds_of(cls(kind="", is_certain=False, tops=[1.0], levels=[1.0], share=1.0).state_dict()), where
        )
        require_lengths({f'shape"]["{name}': state[name] for name in ("tops", "levels")}, num_groups)

    # --- helpers ----------------------------------------------------------------------------------------------

    def _shares(self, nominal: Sequence[float]) -> list[float]:
        return [lr / top if top > 0.0 else 0.0 for lr, top in zip(nominal, self.tops, strict=True)]

    def _multiple(self, index: int) -> float:
        return self.levels[index] / self.tops[index] if self.tops[index] > 0.0 else 1.0

    def _thaw(self, nominal: Sequence[float]) -> None:
        """A group whose lr was 0 and is not any more has no top yet."""
        multiple = self._multiple(max(range(len(self.tops)), key=self.levels.__getitem__))
        for index, lr in enumerate(nominal):
            if self.tops[index] == 0.0 < lr:
                self.tops[index] = lr / (self.share or 1.0)
                self.levels[index] = self.tops[index] * multiple

    def _move_tops(self, factor: float, *, with_levels: bool) -> None:
        self.tops = [top * factor for top in self.tops]
        if with_levels:
            self.levels = [level * factor for level in self.levels]
