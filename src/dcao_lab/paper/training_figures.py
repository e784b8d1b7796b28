"""Figures of what happened during training: learning curves, s and the sharpness against the edge."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

import dcao
from dcao_lab.paper.curves import Read, band
from dcao_lab.paper.drawings import Axis, Curve, Panel
from dcao_lab.paper.style import LineStyle, literal
from dcao_lab.report import formats
from dcao_lab.report.analysis.stability import EDGE, largest_ritz_value, running_median, stability_number
from dcao_lab.report.analysis.view import Place, spelled
from dcao_lab.report.figures.stability import raw_product, trace_of
from dcao_lab.report.numbers import Numbers
from dcao_lab.runner import StoredRun
from dcao_lab.study import Variation

Styles = dict[str, LineStyle]
EVALUATIONS = Axis(label="gradient evaluations")
STEPS = Axis(label="step")
_STRETCH = 100.0  # an axis goes at most so far beyond 90 % of its values
FEW_ARMS = 8  # so many have bands; of more, bands hide the lines


def training_losses(numbers: Numbers, styles: Styles) -> list[Panel]:
    """Training loss over steps: median and quartiles over seeds."""
    axes = {task: Axis(label="training loss", scale="log") for task in numbers.view.tasks}
    return _learning_curves(numbers, styles, STEPS, lambda point: point.step, lambda _: _train_loss, axes)


def validation_metrics(numbers: Numbers, styles: Styles) -> list[Panel]:
    """Validation metric over gradient evaluations, probes included: median and quartiles over seeds."""
    axes = {task: metric_axis(info, "validation") for task, info in numbers.view.infos.items()}

    def read_of(task: str) -> Read:
        name = f"validation_{numbers.view.infos[task].metric}"
        return lambda point: point.metrics.get(name)

    return _learning_curves(numbers, styles, EVALUATIONS, lambda point: point.gradient_evaluations, read_of, axes)


def stability(numbers: Numbers, styles: Styles) -> list[Panel]:
    """The stability number of watched runs: a dot a probe, a line their running median."""
    return _traces(numbers, styles, "stability number $s$", stability_number, is_smooth=True, edge=EDGE)


def raw_stability(numbers: Numbers, styles: Styles) -> list[Panel]:
    """Learning rate times the largest Ritz value, of watched runs."""
    return _traces(numbers, styles, r"$\eta\,\lambda_{\max}$", raw_product, is_smooth=False, edge=EDGE)


def sharpness(numbers: Numbers, styles: Styles) -> list[Panel]:
    """The largest Ritz value of the loss Hessian, of watched runs."""
    return _traces(numbers, styles, r"$\lambda_{\max}$", largest_ritz_value, is_smooth=False, edge=None)


def metric_axis(info, split: str = "test") -> Axis:
    """The axis of a workload's metric."""
    is_share = info.metric == "accuracy"
    return Axis(
        label=literal(formats.metric_title(info, split)),
        scale="linear" if is_share else "log",
        format="share" if is_share else "number",
    )


def within_reach(axis: Axis, values: Iterable[float], *, keep: Sequence[float] = ()) -> Axis:
    """A logarithmic axis that a value on its way to infinity (or to zero) does not stretch; a linear one as it is."""
    positive = sorted(value for value in values if 0.0 < value < math.inf)
    if axis.scale == "linear" or not positive:
        return axis
    usual_low, usual_high = np.quantile(positive, [0.05, 0.95])
    low = min(max(positive[0], usual_low / _STRETCH), *keep, math.inf)
    high = max(min(positive[-1], usual_high * _STRETCH), *keep, 0.0)
    margin = (high / low) ** 0.05 if high > low else 1.5
    return replace(axis, limits=(float(low / margin), float(high * margin)))


def _train_loss(point) -> float | None:
    return point.train_loss


def _learning_curves(
    numbers: Numbers, styles: Styles, x_axis: Axis, x: Read, read_of: Callable[[str], Read], axes: dict[str, Axis]
) -> list[Panel]:
    panels = []
    for task, info in numbers.view.infos.items():
        arms = [arm for arm in numbers.view.arms(task) if Place(task=task, arm=arm.name) in numbers.view.finals]
        curves = [
            _learning_curve(arm.title, styles[arm.name], numbers.view.finals[Place(task=task, arm=arm.name)],
                            x, read_of(task), has_band=len(arms) <= FEW_ARMS)
            for arm in arms
        ]  # fmt: skip
        drawn = [value for curve in curves for value in curve.y if math.isfinite(value)]
        if drawn:
            panels.append(Panel(title=info.title, x=x_axis, y=within_reach(axes[task], drawn), curves=curves))
    return panels


def _learning_curve(
    title: str, style: LineStyle, runs: Sequence[StoredRun], x: Read, y: Read, *, has_band: bool
) -> Curve:
    found = band(runs, x, y)
    is_wide = has_band and len(runs) > 1
    return Curve(
        label=title,
        style=style,
        x=found.x,
        y=found.median,
        low=found.low if is_wide else None,
        high=found.high if is_wide else None,
    )


def _traces(
    numbers: Numbers,
    styles: Styles,
    label: str,
    read: Callable[[dcao.StepRecord], float | None],
    *,
    is_smooth: bool,
    edge: float | None,
) -> list[Panel]:
    """A panel for each task and condition, with the first seed of each arm."""
    panels = []
    for task, variation in _watched(numbers):
        curves = [
            _trace(arm.title, styles[arm.name], runs[0], read, is_smooth)
            for arm in numbers.view.arms(task)
            if (runs := numbers.view.watched.get(Place(task=task, arm=arm.name, variation=variation)))
        ]
        curves = [curve for curve in curves if len(curve.y)]
        drawn = [value for curve in curves for value in curve.y]
        axis = within_reach(Axis(label=label, scale="log"), drawn, keep=() if edge is None else (edge, 1.5 * edge))
        title = ", ".join(filter(None, (numbers.view.infos[task].title, spelled(variation))))
        if curves:
            panels.append(Panel(title=title, x=STEPS, y=axis, curves=curves, edge=edge, edge_label=f"edge at {EDGE:g}"))
    return panels


def _watched(numbers: Numbers) -> list[tuple[str, Variation | None]]:
    present = {(place.task, place.variation) for place in numbers.view.watched}
    return [
        (task, variation)
        for task in numbers.view.tasks
        for variation in (None, *numbers.view.study.variations)
        if (task, variation) in present
    ]


def _trace(title: str, style: LineStyle, run: StoredRun, read, is_smooth: bool) -> Curve:
    steps, values = trace_of(run, read)
    return Curve(
        label=title,
        style=style,
        x=steps,
        y=running_median(values) if is_smooth else values,
        faint=values if is_smooth else None,
    )
