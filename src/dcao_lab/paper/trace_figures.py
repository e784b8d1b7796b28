"""Figures of the watched runs: s and the sharpness against the edge."""

from collections.abc import Callable

import dcao
from dcao_lab.paper.drawings import Axis, Curve, Panel, Sheet
from dcao_lab.paper.style import EDGE_COLOR, LineStyle
from dcao_lab.paper.training_figures import STEPS, Styles, within_reach
from dcao_lab.report.analysis.groups import families
from dcao_lab.report.analysis.stability import (
    EDGE,
    largest_ritz_value,
    preconditioned_number,
    running_median,
    stability_number,
)
from dcao_lab.report.analysis.view import spelled
from dcao_lab.report.figures.stability import FEW_ARMS, own_edge, raw_product, trace_of
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.words import crowding
from dcao_lab.runs.runner import StoredRun
from dcao_lab.study import Variation

MOST_FAMILIES = 4  # so many stand beside each other
OWN_EDGE = LineStyle(color=EDGE_COLOR, dash=(0, (1, 1)), marker="", width=1.0)

Read = Callable[[dcao.StepRecord], float | None]


def stability(numbers: Numbers, styles: Styles) -> Sheet:
    """The stability number of watched runs: a dot a probe, a line their running median."""
    return _traces(numbers, styles, "stability number $s$", stability_number, is_smooth=True, edge=EDGE)


def raw_stability(numbers: Numbers, styles: Styles) -> Sheet:
    """Learning rate times the largest Ritz value, of watched runs."""
    return _traces(numbers, styles, r"$\eta\,\lambda_{\max}$", raw_product, is_smooth=False, edge=EDGE)


def preconditioned_stability(numbers: Numbers, styles: Styles) -> Sheet:
    """S by the largest eigenvalue of the preconditioned Hessian, of watched runs."""
    return _traces(numbers, styles, "$s$, preconditioned", preconditioned_number, is_smooth=False, edge=EDGE)


def sharpness(numbers: Numbers, styles: Styles) -> Sheet:
    """The largest Ritz value of the loss Hessian, of watched runs."""
    return _traces(numbers, styles, r"$\lambda_{\max}$", largest_ritz_value, is_smooth=False, edge=None)


def _traces(numbers: Numbers, styles: Styles, label: str, read: Read, *, is_smooth: bool, edge: float | None) -> Sheet:
    """A panel for each task, condition and family of arms, with the first seed of each arm."""
    panels, most_families, is_crowded = [], 1, False
    for task, variation in _watched(numbers):
        runs = numbers.view.first_watched(task, variation)
        found = families(numbers.view.study, runs, FEW_ARMS)
        most_families = max(most_families, len(found))
        for family, arms in found.items():
            crowd = len(arms) > FEW_ARMS and not set(arms) <= set(numbers.leading)
            is_crowded = is_crowded or crowd
            shown = {arm: runs[arm] for arm in arms if not crowd or arm in numbers.leading}
            title = ", ".join(filter(None, (numbers.view.infos[task].title, family, spelled(variation))))
            panels += _panel(numbers, title, shown, styles, label, read, is_smooth=is_smooth, edge=edge)
    return Sheet(
        panels=panels,
        columns=most_families if 1 < most_families <= MOST_FAMILIES else None,
        note=crowding.on_paper(numbers) if is_crowded else "",
    )


def _panel(
    numbers: Numbers,
    title: str,
    runs: dict[str, StoredRun],
    styles: Styles,
    label: str,
    read: Read,
    *,
    is_smooth: bool,
    edge: float | None,
) -> list[Panel]:
    """The panel; none where no run has a value."""
    curves = [_trace(numbers.view.study.arm(arm).title, styles[arm], run, read, is_smooth) for arm, run in runs.items()]
    if edge is None:
        curves += [_own_edge(run) for run in runs.values()]
    curves = [curve for curve in curves if len(curve.y)]
    drawn = [value for curve in curves for value in curve.y]
    axis = within_reach(Axis(label=label, scale="log"), drawn, keep=() if edge is None else (edge, 1.5 * edge))
    panel = Panel(title=title, x=STEPS, y=axis, curves=curves, edge=edge, edge_label=f"edge at {EDGE:g}")
    return [panel] if curves else []


def _watched(numbers: Numbers) -> list[tuple[str, Variation | None]]:
    present = {(place.task, place.variation) for place in numbers.view.watched}
    return [
        (task, variation)
        for task in numbers.view.tasks
        for variation in (None, *numbers.view.study.variations)
        if (task, variation) in present
    ]


def _trace(title: str, style: LineStyle, run: StoredRun, read: Read, is_smooth: bool) -> Curve:
    steps, values = trace_of(run, read)
    return Curve(
        label=title,
        style=style,
        x=steps,
        y=running_median(values) if is_smooth else values,
        faint=values if is_smooth else None,
    )


def _own_edge(run: StoredRun) -> Curve:
    steps, values = own_edge(run)
    return Curve(label="edge of SGD alone, 2 (1 + momentum) / lr", style=OWN_EDGE, x=steps, y=values, is_marked=False)
