"""Learning curves: over steps, gradient evaluations, seconds or epochs."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from dcao_lab.report import formats
from dcao_lab.report.analysis.shown import conditions
from dcao_lab.report.analysis.spread import spread, spread_shares
from dcao_lab.report.analysis.view import Place
from dcao_lab.report.figures.axes import EVALUATIONS, STEPS, metric_axis, thinned
from dcao_lab.report.figures.drawings import Axis, Panel, Series
from dcao_lab.report.figures.styles import Style
from dcao_lab.report.numbers import Numbers
from dcao_lab.runs.runner import StoredRun
from dcao_lab.runs.training import EvaluationPoint

MAX_CURVE_POINTS = 60
FEW_ARMS = 5  # so many are drawn with each seed; of more, medians and bands alone

Read = Callable[[EvaluationPoint], float | None]
CLOCKS: dict[str, Callable[[EvaluationPoint], float]] = {
    "steps": lambda point: point.step,
    "gradient evaluations": lambda point: point.gradient_evaluations,
    "seconds": lambda point: point.seconds,
    "epochs": lambda point: point.epoch,
}


def training_loss(numbers: Numbers, task: str) -> list[Panel]:
    """Training loss over steps, a panel for each of the task's conditions."""
    axis = Axis(label="training loss", scale="log")
    return _panels(numbers, task, "Training loss", STEPS, "steps", axis, lambda point: point.train_loss)


def validation_metric(numbers: Numbers, task: str) -> list[Panel]:
    """Validation metric over gradient evaluations, probes included, a panel for each of the task's conditions."""
    info = numbers.view.infos[task]
    name, axis = f"validation_{info.metric}", metric_axis(info, "validation")
    return _panels(
        numbers, task, axis.label.capitalize(), EVALUATIONS, "gradient evaluations", axis, lambda p: p.metrics.get(name)
    )


def _panels(numbers: Numbers, task: str, title: str, x: Axis, clock: str, y: Axis, read: Read) -> list[Panel]:
    panels = []
    for variation in conditions(numbers.view, task, numbers.view.finals):
        places = [Place(task=task, arm=arm.name, variation=variation) for arm in numbers.view.arms(task)]
        runs = {place.arm: numbers.view.finals[place] for place in places if place in numbers.view.finals}
        panel = Panel(
            title=formats.joined(title, formats.variation(variation)),
            paper_title=formats.joined(numbers.view.infos[task].title, formats.variation(variation)),
            x=x,
            y=y,
            series=[
                curve(own, read, clock, numbers.styles[arm], has_runs=len(runs) <= FEW_ARMS)
                for arm, own in runs.items()
            ],
        )
        panels.append(panel.showing(numbers.leading))
    return panels


def curve(runs: Sequence[StoredRun], read: Read, clock: str, style: Style, *, has_runs: bool = False) -> Series:
    """Median and spread over the runs of one place at the evaluations that all of them have.

    There is a gap (nan) where one of them has no finite value. The spread is that of
    :func:`~dcao_lab.report.analysis.spread.spread_shares`.
    """
    columns = [column for column in zip(*(run.points for run in runs), strict=False) if _values(read, column)]
    columns = thinned(columns, MAX_CURVE_POINTS)
    behind = runs if has_runs and len(runs) > 1 else ()
    first, last = spread_shares(len(runs))
    clocks = {
        name: [float(np.median([at(point) for point in column])) for column in columns] for name, at in CLOCKS.items()
    }
    return Series(
        style=style,
        x=clocks[clock],
        y=[_quantile(read, column, 0.5) for column in columns],
        spread=spread(len(runs)) if len(runs) > 1 else "",
        low=[_quantile(read, column, first) for column in columns],
        high=[_quantile(read, column, last) for column in columns],
        behind=[replace(curve([run], read, clock, style), label=f"seed {run.config.seed}") for run in behind],
        clocks=clocks,
    )


def _values(read: Read, points: Iterable[EvaluationPoint]) -> list[float]:
    return [value for point in points if (value := read(point)) is not None]


def _quantile(read: Read, points: Sequence[EvaluationPoint], share: float) -> float:
    found = [value for value in _values(read, points) if math.isfinite(value)]
    return float(np.quantile(found, share)) if len(found) == len(points) else math.nan
