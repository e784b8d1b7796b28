"""Coordinate systems: scales, ticks and labels that do not lie on top of each other."""

import math

from matplotlib import axis as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator, PercentFormatter

from dcao_lab.report.figures.drawings import Axis
from dcao_lab.report.paper.canvas import literal, wrapped

_LETTERS_HIGH = 22  # as many as a panel is high
_NARROW = 25  # letters; a narrower panel has room for fewer numbers
_MOST_TICKS, _FEW_TICKS = 5, 4
_MOST_NAMED = 6  # places that have a number each
_FEW_DECADES = 1.7  # fewer than this need ticks at 2 and 5 as well


def set_up(
    axes: Axes, title: str, x: Axis, y: Axis, *, y_limits: tuple[float, float] | None = None, letters: int = 30
) -> None:
    """Scales, labels and title of ``axes`` that is ``letters`` wide, to be called when everything is drawn."""
    axes.set_title(wrapped(literal(title), letters))
    axes.set_xlabel(wrapped(literal(x.label), letters))
    axes.set_ylabel(wrapped(literal(y.label), _LETTERS_HIGH))
    _set_up_axis(axes, "x", x, x.limits, most_ticks=_MOST_TICKS if letters >= _NARROW else _FEW_TICKS)
    _set_up_axis(axes, "y", y, y_limits, most_ticks=_MOST_TICKS)


def _set_up_axis(axes: Axes, which: str, axis: Axis, limits: tuple[float, float] | None, *, most_ticks: int) -> None:
    if limits is not None:  # before the scale, which would look for limits of its own around a loss of 1e300
        getattr(axes, f"set_{which}lim")(*limits)
    getattr(axes, f"set_{which}scale")(axis.scale)
    ticks: mpl.Axis = getattr(axes, f"{which}axis")
    if len(axis.ticks) and (axis.scale == "linear" or len(axis.ticks) <= _MOST_NAMED):
        ticks.set_ticks(
            list(axis.ticks),
            [spelled(value) for value in axis.ticks] if axis.scale == "log" else list(axis.tick_labels),
        )
        ticks.set_minor_locator(NullLocator())
    elif axis.scale == "log":
        _logarithmic(ticks, *getattr(axes, f"get_{which}lim")())
    else:
        ticks.set_major_locator(MaxNLocator(nbins=most_ticks, steps=[1, 2, 2.5, 5, 10]))
    if axis.is_share:
        ticks.set_major_formatter(PercentFormatter(xmax=1.0))


def _logarithmic(ticks: mpl.Axis, low: float, high: float) -> None:
    decades = math.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades < _FEW_DECADES else (1.0,)
    ticks.set_major_locator(LogLocator(subs=subs, numticks=7))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: spelled(value)))
    ticks.set_minor_formatter(NullFormatter())


def spelled(value: float) -> str:
    r"""A tick of a logarithmic axis: near one as a decimal, else as a power of ten.

    Example:
        >>> spelled(0.05), spelled(200.0), spelled(1e-4), spelled(2e-4)
        ('0.05', '200', '$10^{-4}$', '$2\\cdot10^{-4}$')
    """
    if value == 0.0 or 1e-2 <= value < 1e4:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    factor = "" if mantissa == "1" else rf"{mantissa}\cdot"
    return f"${factor}10^{{{int(exponent)}}}$"
