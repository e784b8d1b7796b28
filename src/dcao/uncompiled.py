"""What torch.compile leaves out of its graphs: whatever measures or decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def uncompiled(function: Function) -> Function:
    """``function`` as it is, also where a caller compiles ``optimizer.step`` or a whole training step.

    What it decides is no graph: torch would compile it anew for each number that changes, for minutes, and hand the
    base on in pieces. A compiled model stays compiled inside.

    Example:
        >>> @uncompiled
        ... def twice(number):
        ...     return 2 * number
        >>> twice(3)
        6
    """
    plain = torch._disable_dynamo(function)  # type: ignore[attr-defined]  # as torch does for its own optimizers
    return cast(Function, plain)
