"""JSON as every file of a run has it: one spelling per value, and no nan (null says "no number")."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any


def dumps(value: Any, indent: int | None = None) -> str:
    """The one JSON text of ``value``: keys sorted, nan and infinities as null.

    Example:
        >>> dumps({"b": float("nan"), "a": (1, 2.5)})
        '{"a": [1, 2.5], "b": null}'
    """
    spell = partial(json.dumps, sort_keys=True, allow_nan=False, indent=indent, ensure_ascii=False)
    try:
        return spell(value)
    except ValueError:  # a nan or an infinity somewhere
        return spell(_finite(value))


def text(value: Any) -> str:
    """``value`` as a file has it: indented."""
    return dumps(value, indent=1) + "\n"


def write(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON."""
    path.write_text(text(value), encoding="utf-8")


def write_lines(path: Path, values: list[Any]) -> None:
    """Write ``values`` as JSON Lines."""
    path.write_text("".join(dumps(value) + "\n" for value in values), encoding="utf-8")


def read(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[Any]:
    """The values in a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
