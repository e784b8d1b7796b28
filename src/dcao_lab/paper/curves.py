"""What only the figures need of the runs; every number of a table is the report's own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dcao_lab.report.analysis.spread import spread_shares
from dcao_lab.runs.runner import StoredRun
from dcao_lab.runs.training import EvaluationPoint

NUM_GRID = 300
Read = Callable[[EvaluationPoint], float | None]


@dataclass(frozen=True, kw_only=True)
class Band:
    """The runs of one place over training; nan where one of them has no finite value.

    Attributes:
        x: Where they stood, medians over the runs.
        low: Lower end of the spread: of few runs the smallest value, of more the first quartile.
        median: Their median.
        high: Its upper end.
    """

    x: tuple[float, ...]
    low: tuple[float, ...]
    median: tuple[float, ...]
    high: tuple[float, ...]


def band(runs: Sequence[StoredRun], x: Read, y: Read) -> Band:
    """Median and spread over the runs at each evaluation that all of them have."""
    columns = [column for column in zip(*(run.points for run in runs), strict=False) if _has(column, y)]
    rows = [[value if (value := y(point)) is not None else math.nan for point in column] for column in columns]
    first, last = spread_shares(len(runs))
    low, median, high = (tuple(_quantile(row, share) for row in rows) for share in (first, 0.5, last))
    return Band(
        x=tuple(float(np.median([x(point) for point in column])) for column in columns),
        low=low,
        median=median,
        high=high,
    )


def density_grid(spectra: Sequence[Sequence[float]]) -> tuple[list[float], float]:
    """Points that cover all the spectra, and a hundredth of the widest range: no finer detail of it is real."""
    width = max(max(nodes) - min(nodes) for nodes in spectra) / 100.0 or 0.01
    low, high = min(map(min, spectra)), max(map(max, spectra))
    return np.linspace(low - 4 * width, high + 4 * width, NUM_GRID).tolist(), width


def _has(column: Sequence[EvaluationPoint], read: Read) -> bool:
    return any(read(point) is not None for point in column)


def _quantile(row: Sequence[float], share: float) -> float:
    return float(np.quantile(row, share)) if all(map(math.isfinite, row)) else math.nan
