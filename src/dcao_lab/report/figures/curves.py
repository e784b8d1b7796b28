"""Learning curves: over steps, gradient evaluations, seconds or epochs."""

import math
from collections.abc import Callable, Sequence

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
        series = [
            curve(
                own,
                read,
                clock,
                numbers.styles[arm],
                has_runs=len(runs) <= FEW_ARMS,
                is_extra=arm not in numbers.leading,
            )
            for arm, own in runs.items()
        ]
        titles = (
            ", ".join(filter(None, (first, formats.variation(variation))))
            for first in (title, numbers.view.infos[task].title)
        )
        panels.append(Panel(title=next(titles), paper_title=next(titles), x=x, y=y, series=series))
    return panels


def curve(
    runs: Sequence[StoredRun], read: Read, clock: str, style: Style, *, has_runs: bool = False, is_extra: bool = False
) -> Series:
    """Median and spread over the runs of one place at the evaluations that all of them have.

    There is a gap (nan) where one of them has no finite value. The spread is that of
    :func:`~dcao_lab.report.analysis.spread.spread_shares`.
    """
    columns = [column for column in zip(*(run.points for run in runs), strict=False) if any(map(_has(read), column))]
    columns = thinned(columns, MAX_CURVE_POINTS)
    rows = [[_value(read, point) for point in column] for column in columns]
    first, last = spread_shares(len(runs))
    clocks = {
        name: [float(np.median([at(point) for point in column])) for column in columns] for name, at in CLOCKS.items()
    }
    is_wide = len(runs) > 1 and not is_extra
    return Series(
        label=style.title,
        style=style,
        x=clocks[clock],
        y=[_quantile(row, 0.5) for row in rows],
        spread=spread(len(runs)) if is_wide else "",
        low=[_quantile(row, first) for row in rows],
        high=[_quantile(row, last) for row in rows],
        behind=[_run(run, read, clock, style) for run in runs] if has_runs and len(runs) > 1 else (),
        clocks=clocks,
        is_extra=is_extra,
    )


def _run(run: StoredRun, read: Read, clock: str, style: Style) -> Series:
    points = [point for point in thinned(run.points, MAX_CURVE_POINTS) if _has(read)(point)]
    clocks = {name: [at(point) for point in points] for name, at in CLOCKS.items()}
    values = [_value(read, point) for point in points]
    return Series(label=f"seed {run.config.seed}", style=style, x=clocks[clock], y=values, clocks=clocks)


def _has(read: Read) -> Callable[[EvaluationPoint], bool]:
    return lambda point: read(point) is not None


def _value(read: Read, point: EvaluationPoint) -> float:
    value = read(point)
    return math.nan if value is None else value


def _quantile(row: Sequence[float], share: float) -> float:
    return float(np.quantile(row, share)) if all(map(math.isfinite, row)) else math.nan
