"""The picture: panels below each other over one axis of steps, lines with their names beside them, marks across all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dcao.plotting.curves import Curve
from dcao.plotting.heat import draw_densities
from dcao.plotting.inks import INKS
from dcao.plotting.labels import draw_marks, write_names
from dcao.plotting.limits import scale_of, view
from dcao.plotting.marks import Mark
from dcao.plotting.panels import DENSITY, Panel
from dcao.plotting.thinning import thinned
from dcao.plotting.ticks import ROUND, set_ticks
from dcao.spectra.density import SpectralDensity

WIDTH, PANEL_HEIGHT, MARGIN = 7.0, 1.45, 0.6  # inches
ALONE = 2.4  # inches, of a panel that stands alone

LINES = {"main": "-", "faint": "-", "limit": "--"}
WIDTHS = {"main": 1.5, "faint": 0.8, "limit": 1.2}
FEW_POINTS = 60  # with fewer than this each is a dot too
BEYOND = "beyond"  # the group of triangles at the end of an axis


def draw(panels: Sequence[Panel], marks: Sequence[Mark], densities: Mapping[int, SpectralDensity]) -> Figure:
    """The figure of some panels, at least one."""
    height = ALONE if len(panels) == 1 else PANEL_HEIGHT * len(panels)
    figure = Figure(figsize=(WIDTH, height + MARGIN), layout="constrained")
    all_axes: list[Axes] = []
    for number, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(len(panels), 1, number, sharex=all_axes[0] if all_axes else None, label=panel.name)
        all_axes.append(axes)
        if panel.name == DENSITY:
            draw_densities(axes, densities)
        else:
            _draw_curves(axes, panel)
        axes.set_ylabel(panel.label)
        axes.tick_params(axis="x", labelbottom=number == len(panels))
    first, last = _ends(panels, densities)
    margin = 0.02 * (last - first) or 1.0
    all_axes[0].set_xlim(first - margin, last + margin)
    draw_marks(all_axes, marks, width=WIDTH)
    _name_steps(all_axes)
    figure.align_ylabels()
    return figure


def _name_steps(all_axes: Sequence[Axes]) -> None:
    """The axis of steps, below the last panel."""
    has_beyond = any(line.get_gid() == BEYOND for axes in all_axes for line in axes.lines)
    note = "   (triangles: values beyond the axis)" if has_beyond else ""
    all_axes[-1].set_xlabel(f"optimizer step{note}")
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=8, steps=ROUND, integer=True))


def _ends(panels: Sequence[Panel], densities: Mapping[int, SpectralDensity]) -> tuple[int, int]:
    steps = [step for panel in panels for curve in panel.curves for step in (min(curve.steps), max(curve.steps))]
    if any(panel.name == DENSITY for panel in panels):
        steps += densities
    return min(steps), max(steps)


def _draw_curves(axes: Axes, panel: Panel) -> None:
    values = [value for curve in panel.curves if curve.ink != "limit" for value in curve.values]
    limits = [value for curve in panel.curves if curve.ink == "limit" for value in _middle(curve)]
    scale = scale_of(values, panel.scale)
    low, high = view(values, scale, keep=limits)
    axes.set_yscale(scale, **({"nonpositive": "mask"} if scale == "log" else {}))
    axes.set_ylim(low, high)
    set_ticks(axes, scale, [*values, *limits])
    for curve in panel.curves:
        _draw_curve(axes, curve, low, high)
    write_names(axes, panel.curves, scale)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _middle(curve: Curve) -> list[float]:
    """A usual height of a limit, which has to be in view; where it goes to infinity need not be."""
    finite = sorted(value for value in curve.values if math.isfinite(value))
    return finite[len(finite) // 2 : len(finite) // 2 + 1]


def _draw_curve(axes: Axes, curve: Curve, low: float, high: float) -> None:
    kept = thinned(curve.values)
    steps, values = [curve.steps[i] for i in kept], [curve.values[i] for i in kept]
    dots = range(len(values)) if curve.ink == "main" and len(values) < FEW_POINTS else _alone(values)
    axes.plot(
        steps,
        [value if math.isfinite(value) else math.nan for value in values],
        LINES[curve.ink],
        color=INKS[curve.ink],
        linewidth=WIDTHS[curve.ink],
        marker="." if dots else None,
        markevery=list(dots) or None,
        markersize=4,
        label=curve.label or "_",
        zorder=3 if curve.ink == "main" else 2,
    )
    if curve.ink != "limit":
        above = [step for step, value in zip(steps, values, strict=True) if value > high]
        below = [step for step, value in zip(steps, values, strict=True) if value < low]
        _point_beyond(axes, above, "^", 0.97, INKS[curve.ink])
        _point_beyond(axes, below, "v", 0.03, INKS[curve.ink])


def _alone(values: Sequence[float]) -> list[int]:
    """Values between two gaps, which no line shows."""
    is_finite = [False, *map(math.isfinite, values), False]
    return [i for i in range(len(values)) if is_finite[i + 1] and not is_finite[i] and not is_finite[i + 2]]


def _point_beyond(axes: Axes, steps: Sequence[int], triangle: str, height: float, color: str) -> None:
    if steps:
        (line,) = axes.plot(steps, [height] * len(steps), triangle, color=color, markersize=4)
        line.set_transform(axes.get_xaxis_transform())
        line.set_gid(BEYOND)
