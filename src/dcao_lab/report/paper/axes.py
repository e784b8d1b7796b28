"""Coordinate systems: scales, ticks and labels that do not lie on top of each other."""

import math
from collections.abc import Callable

from matplotlib import axis as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from dcao_lab.report.figures.drawings import Axis
from dcao_lab.report.paper.canvas import literal, wrapped

_LETTERS_HIGH = 22  # as many as a panel is high
_MOST_TICKS = 5
_BETWEEN = 2  # letters from one number of a horizontal axis to the next, at least
_MOST_NAMED = 6  # places that have a number each
_ENOUGH = 3  # numbers that tell a logarithmic scale
_FIRST_DIGITS = ((1.0,), (1.0, 2.0, 5.0), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0))


def set_up(
    axes: Axes, title: str, x: Axis, y: Axis, *, y_limits: tuple[float, float] | None = None, letters: int = 30
) -> None:
    """Scales, labels and title of ``axes`` that is ``letters`` wide, to be called when everything is drawn."""
    axes.set_title(wrapped(literal(title), letters))
    axes.set_xlabel(wrapped(literal(x.label), letters))
    axes.set_ylabel(wrapped(literal(y.label), _LETTERS_HIGH))
    _set_up_axis(axes, "x", x, x.limits, letters=letters)
    _set_up_axis(axes, "y", y, y_limits)


def _set_up_axis(
    axes: Axes, which: str, axis: Axis, limits: tuple[float, float] | None, *, letters: float = math.inf
) -> None:
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
        low, high = getattr(axes, f"get_{which}lim")()
        _linear(ticks, low, high, letters=letters, spell=_percent if axis.is_share else _number)


def _linear(ticks: mpl.Axis, low: float, high: float, *, letters: float, spell: Callable[[float], str]) -> None:
    """As many numbers as have room beside each other, at most five."""
    for most in range(_MOST_TICKS, 0, -1):
        found = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        places = [value for value in found if min(low, high) <= value <= max(low, high)]
        if sum(len(spell(value)) + _BETWEEN for value in places) <= letters:
            break
    ticks.set_major_locator(FixedLocator(places))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: spell(value)))


def _logarithmic(ticks: mpl.Axis, low: float, high: float) -> None:
    """Powers of ten, or what is between them too where these are few."""
    locators = [LogLocator(subs=digits, numticks=7) for digits in _FIRST_DIGITS]
    counted = [sum(low <= value <= high for value in locator.tick_values(low, high)) for locator in locators]
    enough = next((number for number, count in enumerate(counted) if count >= _ENOUGH), None)
    ticks.set_major_locator(MaxNLocator(nbins=_MOST_TICKS) if enough is None else locators[enough])
    ticks.set_major_formatter(FuncFormatter(lambda value, _: spelled(value)))
    ticks.set_minor_formatter(NullFormatter())


def _number(value: float) -> str:
    """Seven digits are those of a tick, more are its float noise."""
    return f"{value + 0.0:.7g}".replace("-", "\N{MINUS SIGN}")  # -0.0 has no sign then


def _percent(value: float) -> str:
    return f"{_number(100.0 * value)}%"


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
