"""Warnings to the caller: each cause once, and on the caller's own line."""

from __future__ import annotations

import sys
import warnings

LONG = 100
"""Steps for which something has to go on before the caller is told."""

_WRAPPERS = ("torch.optim.", "torch.utils.", "torch._compile", "torch._dynamo.")


class Notices:
    """What the caller has been told in this run, so that no cause is named twice.

    Example:
        >>> notices = Notices()
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     for _ in range(3):
        ...         notices.tell("zero lr", "lr is 0: nothing trains")
        >>> [str(each.message) for each in caught]
        ['lr is 0: nothing trains']
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, cause: str, message: str, category: type[Warning] = UserWarning) -> None:
        """Warn, unless this cause has been told already."""
        if cause not in self._told:
            self._told.add(cause)
            warn(message, category)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the caller's own line, however far up the stack it is."""
    warnings.warn(message, category, stacklevel=_frames_to_caller())


def _frames_to_caller() -> int:
    """Stack level of the first frame outside this package and torch's wrappers around its methods."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    return level


def _is_inside(module: str) -> bool:
    return module.split(".")[0] == "dcao" or module.startswith(_WRAPPERS)
