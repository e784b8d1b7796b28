"""The critical-difference diagram (Demšar 2006), measured out in inches: its names decide where all else is."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcao_lab.report.figures.drawings import Bar, BarChart
from dcao_lab.report.figures.styles import EDGE_COLOR
from dcao_lab.report.paper.canvas import NO_BREAK, ONE_COLUMN, TWO_COLUMNS, literal, new_figure, size_of, wrapped

_LINE = 0.15  # inches from one name to the next
_BAR = 0.08  # from one bar to the next
_ABOVE = 0.48  # what scale and critical difference need
_MARGIN = 0.08  # a PDF's text is a little wider than a screen's
_GAP = 0.04  # between a name and its line
_NARROWEST_SCALE = 1.4
_NUMBER = 0.17  # what a number of two digits takes beside others
_NAME_LETTERS = 34  # of a line; two such names leave room for a scale on a page


@dataclass(frozen=True, kw_only=True)
class _Scale:
    left: float
    right: float
    top: float
    num_arms: int

    def at(self, rank: float) -> float:
        return self.left + (rank - 1.0) / (self.num_arms - 1) * (self.right - self.left)


def draw_ranks(diagram: BarChart) -> Figure:
    """The diagram: best on the left; a thick bar joins arms whose ranks chance explains."""
    num_arms = len(diagram.bars)
    names = [_named(bar) for bar in diagram.bars]
    num_left = (num_arms + 1) // 2
    sides = names[:num_left], names[: num_left - 1 : -1]  # each from above
    levels = [*_levels(sides[0]), *reversed(_levels(sides[1]))]
    height = _ABOVE + _BAR * len(diagram.groups) + _LINE * (max(sum(map(_num_lines, side)) for side in sides) + 1)
    left, right = _widest(names[:num_left]), _widest(names[num_left:])
    wanted = left + right + _NARROWEST_SCALE + 2 * (_MARGIN + _GAP)
    width = ONE_COLUMN if wanted <= ONE_COLUMN and num_arms <= 6 else max(TWO_COLUMNS, wanted)
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    scale = _Scale(
        left=_MARGIN + left + 0.2, right=width - _MARGIN - right - 0.2, top=height - _ABOVE, num_arms=num_arms
    )
    _draw_scale(axes, scale, diagram.critical_difference or 0.0)
    _draw_groups(axes, scale, diagram)
    first = scale.top - _BAR * (len(diagram.groups) + 1) - 0.6 * _LINE
    for position, (name, bar) in enumerate(zip(names, diagram.bars, strict=True)):
        is_left = position < num_left
        _draw_name(axes, scale, name, bar.value, first - _LINE * levels[position], is_left)
    return figure


def _named(bar: Bar) -> str:
    """Name, in lines that end at commas, and rank."""
    name = literal(bar.name).replace(" ", NO_BREAK).replace(f",{NO_BREAK}", ", ")
    return wrapped(f"{name}{2 * NO_BREAK}{bar.value:.2f}", _NAME_LETTERS)


def _levels(names: Sequence[str]) -> list[float]:
    """How many lines below the first one the middle of each name is."""
    lines = list(map(_num_lines, names))
    return [sum(lines[:number]) + (own - 1) / 2 for number, own in enumerate(lines)]


def _num_lines(name: str) -> int:
    return name.count("\n") + 1


def _draw_scale(axes: Axes, scale: _Scale, critical_difference: float) -> None:
    axes.plot([scale.left, scale.right], [scale.top] * 2, color="black", linewidth=0.8)
    between = (scale.right - scale.left) / (scale.num_arms - 1)
    step = next(step for step in (1, 2, 5, 10, 20, 50) if step * between > _NUMBER)
    for rank in range(1, scale.num_arms + 1):
        axes.plot([scale.at(rank)] * 2, [scale.top, scale.top + 0.05], color="black", linewidth=0.8)
        if rank % step == 1 or step == 1:
            axes.text(scale.at(rank), scale.top + 0.07, str(rank), ha="center", va="bottom", fontsize=7)
    end = min(1.0 + critical_difference, scale.num_arms)
    level = scale.top + 0.25
    axes.plot([scale.left, scale.at(end)], [level] * 2, color=EDGE_COLOR.paper, linewidth=1.8, solid_capstyle="butt")
    more = ", beyond the scale" if 1.0 + critical_difference > scale.num_arms else ""
    label = f"critical difference {critical_difference:.2f}{more}"
    axes.text(scale.left, level + 0.03, label, ha="left", va="bottom", fontsize=6.5)


def _draw_groups(axes: Axes, scale: _Scale, diagram: BarChart) -> None:
    for number, (first, last) in enumerate(diagram.groups):
        ends = [scale.at(diagram.bars[first].value) - 0.03, scale.at(diagram.bars[last].value) + 0.03]
        level = scale.top - _BAR * (number + 1)
        axes.plot(ends, [level] * 2, color="black", linewidth=2.4, solid_capstyle="butt")


def _draw_name(axes: Axes, scale: _Scale, name: str, rank: float, level: float, is_left: bool) -> None:
    end = scale.left - 0.15 if is_left else scale.right + 0.15
    at = scale.at(rank)
    axes.plot([at, at, end], [scale.top, level, level], color="#555555", linewidth=0.6)
    axes.text(end + (-_GAP if is_left else _GAP), level, name, ha="right" if is_left else "left", va="center")


def _widest(names: Sequence[str]) -> float:
    """Inches that the longest of the names takes."""
    figure = new_figure(1, 1)
    return max((size_of(figure, figure.text(0, 0, name))[0] for name in names), default=0.0)
