"""Numbers rounded so coarsely that float noise does not get through."""

from __future__ import annotations

import math

VALUES_PER_OCTAVE = 16
"""The first probe's numbers are rounded to this many values per octave, so that their float noise, which depends on the
lr that was given, does not get into the run. Rounding moves them by 3 % at most, and an estimate is far less exact."""


def rounded(estimate: float) -> float:
    """The estimate, rounded to ``VALUES_PER_OCTAVE`` values per octave; 0 and what is not finite stay as they are.

    Example:
        >>> rounded(1.01), rounded(1.02), rounded(1.05)
        (1.0, 1.0, 1.0625)
    """
    if not math.isfinite(estimate):
        return estimate
    mantissa, exponent = math.frexp(estimate)  # of a mantissa from 1/2 to 1
    return math.ldexp(round(mantissa * 2 * VALUES_PER_OCTAVE) / (2 * VALUES_PER_OCTAVE), exponent)
