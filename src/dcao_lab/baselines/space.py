"""What a search may vary of an optimizer, and between which values."""

from collections.abc import Mapping
from dataclasses import dataclass

from dcao_lab.config import Setting


@dataclass(frozen=True, kw_only=True)
class Continuous:
    """A number between two others.

    Attributes:
        low: The smallest.
        high: The largest.
        default: The optimizer's documented value, which every search tries first.
        is_log: Whether it is searched on a logarithmic scale.
    """

    low: float
    high: float
    default: float
    is_log: bool = True


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several values.

    Attributes:
        values: All of them.
        default: The optimizer's documented value, which every search tries first.
    """

    values: tuple[Setting, ...]
    default: Setting


Parameter = Continuous | Choice
SearchSpace = Mapping[str, Parameter]
"""Parameters by the name that ``RunConfig.settings`` has for them, the learning rate as ``lr`` among them."""
