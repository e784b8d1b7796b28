"""Curvature of the trained networks beside how they do on data they have not seen."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dcao_lab.report.analysis.results import Results
from dcao_lab.report.analysis.view import (
    ArmOnTask,
    Place,
    StudyView,
    final_metric,
    finite_median,
    is_default,
    ranking,
)
from dcao_lab.report.analysis.window import Point

MEASURES = ("sharpness", "preconditioned_sharpness", "trace")
OUTCOMES = ("generalisation_gap", "test_metric")

Density = dict[str, list[float]]  # nodes and weights


@dataclass(frozen=True, kw_only=True)
class Solution(ArmOnTask):
    """One trained network.

    Attributes:
        seed: Training seed.
        measures: Curvature by measure; None where it could not be had.
        outcomes: Gap between test and training loss, and the test metric.
        density: Nodes and weights of the spectral density; None where not measured.
    """

    seed: int
    measures: dict[str, float | None]
    outcomes: dict[str, float | None]
    density: Density | None


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Spearman's rank correlation over the trained networks of one task.

    Attributes:
        task: Name of the workload.
        measure: Of curvature.
        outcome: What it is compared with.
        num_runs: Networks that have both.
        rho: The correlation; None where undefined.
        p_value: Two-sided; runs of one arm are not independent, so it is too small.
    """

    task: str
    measure: str
    outcome: str
    num_runs: int
    rho: float | None
    p_value: float | None


def solutions(view: StudyView) -> tuple[Solution, ...]:
    """The trained networks whose curvature was measured."""
    found = []
    for place, runs in view.finals.items():
        info = view.infos[place.task]
        for run in runs:
            measured = run.result.solution
            if measured is not None:
                outcomes = {"generalisation_gap": run.result.generalisation_gap, "test_metric": final_metric(run, info)}
                found.append(
                    Solution(
                        task=place.task,
                        arm=place.arm,
                        seed=run.config.seed,
                        measures={name: measured[name] for name in MEASURES},
                        outcomes=outcomes,
                        density=measured["density"],
                    )
                )
    return tuple(found)


def correlations(found: tuple[Solution, ...]) -> tuple[Correlation, ...]:
    """Every measure against every outcome, by task."""
    tasks = list(dict.fromkeys(solution.task for solution in found))
    return tuple(
        _correlation([s for s in found if s.task == task], task, measure, outcome)
        for task in tasks
        for measure in MEASURES
        for outcome in OUTCOMES
    )


def flatter_cases(view: StudyView, results: Results) -> list[bool]:
    """Whether DCAO as it comes ends flatter than its reference does at its best lr, for each such arm and workload."""
    found = []
    for arm in filter(is_default, view.study.arms):
        for task, info in view.infos.items():
            rivals = [r.place for r in results.values() if (r.place.task, r.place.arm) == (task, arm.reference)]
            places = [r.place for r in results.values() if (r.place.task, r.place.arm) == (task, arm.name)]
            best = max(rivals, key=lambda place: ranking(info)(results[place].median), default=None)
            own, other = _sharpness(view, places), _sharpness(view, [best] if best else [])
            if own is not None and other is not None:
                found.append(own < other)
    return found


def _sharpness(view: StudyView, places: Iterable[Place]) -> float | None:
    """The median sharpness of the networks that were trained at these places; None without one."""
    solved = [run.result.solution for place in places for run in view.finals.get(place, ()) if run.result.solution]
    return finite_median(solution["sharpness"] for solution in solved)


def points(found: Iterable[Solution], measure: str, outcome: str) -> list[Point]:
    """Curvature and outcome of the networks that have both; a curvature of zero has no place on a logarithmic scale."""
    pairs = [(solution.measures[measure], solution.outcomes[outcome]) for solution in found]
    return [(x, y) for x, y in pairs if x is not None and y is not None and x > 0.0 and math.isfinite(y)]


def smoothed_density(
    nodes: Sequence[float], weights: Sequence[float], grid: Sequence[float], width: float
) -> list[float]:
    """The density on the grid, each node a bell of standard deviation ``width``."""
    bells = stats.norm.pdf(np.array(grid)[:, None], loc=nodes, scale=width)
    density: list[float] = (bells @ weights).tolist()
    return density


def _correlation(found: list[Solution], task: str, measure: str, outcome: str) -> Correlation:
    pairs = [(s.measures[measure], s.outcomes[outcome]) for s in found]
    pairs = [(x, y) for x, y in pairs if x is not None and y is not None]
    rho = p_value = None
    if len(pairs) > 2 and all(len(set(column)) > 1 for column in zip(*pairs, strict=True)):
        rho, p_value = map(float, stats.spearmanr(*zip(*pairs, strict=True)))
    return Correlation(task=task, measure=measure, outcome=outcome, num_runs=len(pairs), rho=rho, p_value=p_value)
