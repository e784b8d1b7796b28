"""Checks of arguments that more than one place takes."""

from __future__ import annotations

import numbers


def require_whole(name: str, value: object, unit: str, *, fix: str = "") -> None:
    """Check that a count of steps, or of something else, is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number of {unit}s, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1 {unit}, got {value}{fix}")


def require_number(name: str, value: object, *, fix: str = "") -> None:
    """Check that a value is a number, before it is compared with others."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}{fix}")


def require_instance(name: str, value: object, kind: type, *, fix: str) -> None:
    """Check that a value is an instance of ``kind``, which the message names; a class is told from an instance."""
    if isinstance(value, type):
        raise TypeError(
            f"{name} must be a dcao.{kind.__name__}, got the class {value.__name__}; call it, as in {value.__name__}()"
        )
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a dcao.{kind.__name__}, got {type(value).__name__}; {fix}")
