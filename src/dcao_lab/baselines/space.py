"""The hyperparameters of an optimizer that a search may vary, with their ranges."""

from collections.abc import Mapping
from dataclasses import dataclass

from dcao_lab.config import Setting


@dataclass(frozen=True, kw_only=True)
class Continuous:
    """A hyperparameter that is a number within a range.

    Attributes:
        low: Smallest value.
        high: Largest value.
        default: The optimizer's documented value, which every search tries first.
        is_log: Whether the search uses a logarithmic scale.
    """

    low: float
    high: float
    default: float
    is_log: bool = True


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A hyperparameter that is one of several values.

    Attributes:
        values: All values that a search may choose.
        default: The optimizer's documented value, which every search tries first.
    """

    values: tuple[Setting, ...]
    default: Setting


Parameter = Continuous | Choice
SearchSpace = Mapping[str, Parameter]
"""Hyperparameters by their names in ``RunConfig.settings``, and the initial learning rate as ``lr``."""
