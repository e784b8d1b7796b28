"""Checks of arguments that more than one place takes."""

from __future__ import annotations


def require_whole(name: str, value: object, unit: str, *, fix: str = "") -> None:
    """Check that a count of steps, or of something else, is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number of {unit}s, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1 {unit}, got {value}{fix}")
