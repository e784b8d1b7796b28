"""How a picture spells numbers."""

from __future__ import annotations

import math


def spelled(value: float, digits: int = 4) -> str:
    r"""A number near one as a decimal with at most ``digits`` digits, others as powers of ten.

    Example:
        >>> spelled(0.05), spelled(200.0), spelled(1e-4), spelled(2e-4)
        ('0.05', '200', '$10^{-4}$', '$2\\cdot10^{-4}$')
        >>> spelled(1234.5, digits=2)
        '1200'
    """
    if value == 0.0 or 1e-3 <= abs(value) < 1e4 or not math.isfinite(value):
        return f"{float(f'{value:.{digits}g}'):g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    factor = "" if float(mantissa) == 1.0 else rf"{float(mantissa):g}\cdot"
    return f"${factor}10^{{{int(exponent)}}}$"
