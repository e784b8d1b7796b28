"""What is written beside and above the panels: the names of lines and of marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes

from dcao.plotting.curves import Curve
from dcao.plotting.inks import INKS, MARK_INK, SMALL
from dcao.plotting.limits import Scale
from dcao.plotting.marks import ARRIVED, RESTORED, SKIPPED, TURNED_BACK, TURNED_UP, Mark

LEAST_APART = 0.13  # of a panel's height, between two names
MARK_LINES = {ARRIVED: ":", TURNED_BACK: "-.", TURNED_UP: "-.", RESTORED: "--", SKIPPED: "-"}
OUTSIDE = 1.5  # inches, about, of a figure's width that are beside its panels
FIRST_ROW, ROW = 6, 11  # points, of names above each other
CHARACTER = 0.068  # inches, about, of a letter


def write_names(axes: Axes, curves: Sequence[Curve], scale: Scale) -> None:
    """The names of the lines at their right ends, moved apart where they would touch."""
    unit = math.log if scale == "log" else float
    low, high = map(unit, axes.get_ylim())
    named = [(curve, last) for curve in curves if curve.label and (last := _last(curve, scale)) is not None]
    heights = [(unit(last) - low) / (high - low) for _, last in named]
    for (curve, _), height in zip(named, _apart(heights, least=LEAST_APART), strict=True):
        axes.annotate(
            curve.label,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=INKS["limit" if curve.ink == "limit" else "main"],  # the faint one is too pale for letters
            annotation_clip=False,
        )


def _last(curve: Curve, scale: Scale) -> float | None:
    """Where a line ends that can be seen on such an axis."""
    seen = (value for value in reversed(curve.values) if math.isfinite(value) and (value > 0.0 or scale == "linear"))
    return next(seen, None)


def _apart(heights: Sequence[float], *, least: float) -> list[float]:
    """The heights, each inside the axes and ``least`` above the next lower one."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    moved = [min(max(height, 0.0), 1.0) for height in heights]
    for lower, upper in pairwise(order):
        moved[upper] = max(moved[upper], moved[lower] + least)
    highest = 1.0
    for index in reversed(order):
        moved[index] = min(moved[index], highest)
        highest = moved[index] - least
    return moved


def draw_marks(all_axes: Sequence[Axes], marks: Sequence[Mark], *, width: float) -> None:
    """A line across all panels for each event, and its name above them; skipped steps are short lines above them.

    The figure is ``width`` inches wide. Names that would touch stand above each other.
    """
    ends: list[float] = []  # of the last name in each row, in inches
    first, last = all_axes[0].get_xlim()
    for mark in sorted(marks, key=lambda mark: mark.steps[0]):
        _draw_lines(all_axes, mark, least=(last - first) / 300)
        begin = (mark.steps[0] - first) / (last - first) * (width - OUTSIDE)
        length = CHARACTER * (len(mark.label) + 2)
        is_late = begin + length > width - OUTSIDE
        begin, end = (begin - length, begin) if is_late else (begin, begin + length)
        row = next((row for row, taken in enumerate(ends) if taken <= begin), len(ends))
        ends[row : row + 1] = [end]
        all_axes[0].annotate(
            mark.label,
            (mark.steps[0], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, FIRST_ROW + ROW * row),
            textcoords="offset points",
            ha="right" if is_late else "left",
            fontsize=SMALL,
            color=MARK_INK,
            annotation_clip=False,
        )


def _draw_lines(all_axes: Sequence[Axes], mark: Mark, *, least: float) -> None:
    is_short = mark.name == SKIPPED
    for axes in all_axes[:1] if is_short else all_axes:
        axes.vlines(
            _spread_out(mark.steps, least),
            *((1.0, 1.04) if is_short else (0.0, 1.0)),
            transform=axes.get_xaxis_transform(),
            color=MARK_INK,
            linewidth=1.0,
            linestyle=MARK_LINES[mark.name],
            label=mark.name,
            zorder=1,
            clip_on=not is_short,
        )


def _spread_out(steps: Sequence[int], least: float) -> list[int]:
    """Steps without those that would be drawn over the one before."""
    kept: list[int] = []
    for step in sorted(steps):
        if not kept or step - kept[-1] >= least:
            kept.append(step)
    return kept
