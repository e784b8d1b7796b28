"""What a person asked for and cannot have: one sentence, shown without a traceback."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


class LabError(ValueError):
    """A request that cannot be met; its message says the rule, the value and the fix."""


class LostWorkerError(LabError):
    """A process died over a run again and again: something broke, and a new start may mend it."""


def look_up(registry: Mapping[str, T], name: str, kind: str) -> T:
    """The entry of ``registry`` called ``name``.

    Raises:
        LabError: Nothing is called that; the message lists near matches, or everything.

    Example:
        >>> look_up({"adamw": 1, "sgd": 2}, "adamw", "optimizer")
        1
        >>> look_up({"adamw": 1, "sgd": 2}, "adam", "optimizer")
        Traceback (most recent call last):
        ...
        dcao_lab.errors.LabError: unknown optimizer 'adam'; did you mean adamw? There are: adamw, sgd
    """
    if name in registry:
        return registry[name]
    near = difflib.get_close_matches(name, registry, n=3, cutoff=0.5)
    question = f"did you mean {' or '.join(near)}? There" if near else "there"
    raise LabError(f"unknown {kind} {name!r}; {question} are: {', '.join(registry)}")
