"""The settings of an optimizer that a run may change, checked before the optimizer is built."""

import math
from collections.abc import Mapping
from typing import Any

from dcao_lab.config import Setting
from dcao_lab.errors import LabError

Settings = Mapping[str, Setting]
Values = dict[str, Any]
"""All settings of an optimizer by name; each has the type of its default, which :func:`complete` checks."""


def complete(title: str, settings: Settings, defaults: Settings) -> Values:
    """All settings: those of ``settings``, and for the others the values of ``defaults``.

    A whole number may be given for a float, and 10.0 for a whole number.

    Raises:
        LabError: A setting is not among the defaults, has another type than its default, or is not finite.

    Example:
        >>> complete("SGD", {"momentum": 0.5}, {"momentum": 0.9, "nesterov": False})
        {'momentum': 0.5, 'nesterov': False}
        >>> complete("SGD", {"beta2": 0.5}, {"momentum": 0.9, "nesterov": False})
        Traceback (most recent call last):
        ...
        dcao_lab.errors.LabError: unknown setting beta2 of SGD; it knows: momentum, nesterov
    """
    unknown = sorted(set(settings) - set(defaults))
    if unknown:
        word = "setting" if len(unknown) == 1 else "settings"
        raise LabError(f"unknown {word} {', '.join(unknown)} of {title}; it knows: {', '.join(sorted(defaults))}")
    return {name: _same_type(name, settings.get(name, default), default) for name, default in defaults.items()}


def _same_type(name: str, value: Setting, default: Setting) -> Setting:
    kind = type(default)
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) is float and value.is_integer():
        return int(value)  # a search proposes 10.0
    if type(value) is not kind:
        raise LabError(f"{name} must be {_KINDS[kind]}, got {value!r}; its default is {default!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise LabError(f"{name} must be finite, got {value!r}; its default is {default!r}")
    return value


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
