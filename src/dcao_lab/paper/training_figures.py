"""Learning curves."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from dcao_lab.paper.curves import Read, band
from dcao_lab.paper.drawings import Axis, Curve, Panel, Sheet
from dcao_lab.paper.style import LineStyle, literal
from dcao_lab.report import formats
from dcao_lab.report.analysis.conditions import conditions
from dcao_lab.report.analysis.spread import spread_words
from dcao_lab.report.analysis.view import Place
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.words import crowding
from dcao_lab.runs.runner import StoredRun

Styles = dict[str, LineStyle]
EVALUATIONS = Axis(label="gradient evaluations")
STEPS = Axis(label="step")
_STRETCH = 100.0  # an axis goes at most so far beyond 90 % of its values


def training_losses(numbers: Numbers, styles: Styles) -> Sheet:
    """Training loss over steps: median and spread over seeds."""
    axes = {task: Axis(label="training loss", scale="log") for task in numbers.view.tasks}
    return _learning_curves(numbers, styles, STEPS, lambda point: point.step, lambda _: _train_loss, axes)


def validation_metrics(numbers: Numbers, styles: Styles) -> Sheet:
    """Validation metric over gradient evaluations, probes included: median and spread over seeds."""
    axes = {task: metric_axis(info, "validation") for task, info in numbers.view.infos.items()}

    def read_of(task: str) -> Read:
        name = f"validation_{numbers.view.infos[task].metric}"
        return lambda point: point.metrics.get(name)

    return _learning_curves(numbers, styles, EVALUATIONS, lambda point: point.gradient_evaluations, read_of, axes)


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
) -> Sheet:
    """A panel for each task and for each of its conditions, of a study of many arms with the leading ones."""
    panels, most_conditions = [], 1
    for task, info in numbers.view.infos.items():
        found = conditions(numbers.view, task, numbers.view.finals)
        most_conditions = max(most_conditions, len(found))
        for variation in found:
            places = {arm: Place(task=task, arm=arm, variation=variation) for arm in numbers.leading}
            curves = [
                _learning_curve(numbers.view.study.arm(arm).title, styles[arm], runs, x, read_of(task))
                for arm, place in places.items()
                if (runs := numbers.view.finals.get(place))
            ]
            drawn = [value for curve in curves for value in curve.y if math.isfinite(value)]
            if drawn:
                title = ", ".join(filter(None, (info.title, formats.variation(variation))))
                panels.append(Panel(title=title, x=x_axis, y=within_reach(axes[task], drawn), curves=curves))
    return Sheet(panels=panels, columns=most_conditions if most_conditions > 1 else None, note=_note(numbers))


def _note(numbers: Numbers) -> str:
    spread = spread_words(len(runs) for runs in numbers.view.finals.values())
    return " ".join(filter(None, (f"Lines: medians; bands: {spread}." if spread else "", crowding.on_paper(numbers))))


def _learning_curve(title: str, style: LineStyle, runs: Sequence[StoredRun], x: Read, y: Read) -> Curve:
    found = band(runs, x, y)
    is_wide = len(runs) > 1
    return Curve(
        label=title,
        style=style,
        x=found.x,
        y=found.median,
        low=found.low if is_wide else None,
        high=found.high if is_wide else None,
    )
