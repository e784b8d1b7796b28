"""Fewer points for the same picture: of each stretch of a long curve its smallest and largest value, and its gaps."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST_POINTS = 3000
"""Points of a curve that are all drawn: two for each pixel of a wide picture."""


def thinned(values: Sequence[float], most: int = MOST_POINTS) -> list[int]:
    """Indices of the values to draw, at most about ``most``: both ends, and of each stretch extremes and a gap.

    Every value is kept where there are no more than that.

    Example:
        >>> thinned([0.0, 1.0, 9.0, 2.0, 1.0, 0.5, 1.0, 2.0, 1.0], most=6)
        [0, 2, 5, 7, 8]
        >>> thinned([1.0, math.nan, 2.0], most=6)
        [0, 1, 2]
    """
    if len(values) <= most:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    length = math.ceil(len(values) / max(most // 3, 1))
    for first in range(0, len(values), length):
        stretch = range(first, min(first + length, len(values)))
        finite = [index for index in stretch if math.isfinite(values[index])]
        if finite:
            kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
        if len(finite) < len(stretch):
            kept.add(next(index for index in stretch if not math.isfinite(values[index])))
    return sorted(kept)
