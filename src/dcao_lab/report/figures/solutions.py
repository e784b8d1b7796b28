"""Curvature of the trained networks: against how they generalise, and as a density."""

from collections.abc import Sequence

import numpy as np

from dcao_lab.report import formats
from dcao_lab.report.analysis.solutions import Correlation, Density, Solution, points, smoothed_density
from dcao_lab.report.analysis.window import Extent, Window, window
from dcao_lab.report.figures.drawings import Axis, Mark, Panel, Series
from dcao_lab.report.figures.styles import Style
from dcao_lab.report.numbers import Numbers
from dcao_lab.workloads import WorkloadInfo

SMALLEST_DENSITY = 1e-6  # where the drawing of a density begins
NUM_GRID = 200
MEASURE_TITLES = {
    "sharpness": "sharpness of the solution",
    "preconditioned_sharpness": "preconditioned sharpness",
    "trace": "trace of the Hessian",
}


def outcome_title(info: WorkloadInfo, outcome: str) -> str:
    """What is compared with the curvature, in words."""
    return "test loss - training loss" if outcome == "generalisation_gap" else formats.metric_title(info)


def scatter(numbers: Numbers, task: str, measure: str, outcome: str, *, title: str = "") -> list[Panel]:
    """A point for each trained network, a triangle at the edge for one out of view; no panel without points.

    The panel is called ``title``, or else by the outcome; the correlation comes after it.
    """
    found = [solution for solution in numbers.solutions if solution.task == task]
    everything = points(found, measure, outcome)
    if not everything:
        return []
    info = numbers.view.infos[task]
    is_share = outcome == "test_metric" and info.metric == "accuracy"
    view = window(everything, y_is_share=is_share)
    clouds = [_cloud([s for s in found if s.arm == arm.name], measure, outcome, view, numbers.styles[arm.name])
              for arm in numbers.view.arms(task)]  # fmt: skip
    outside = len(view.outside(everything))
    (rho,) = [c for c in numbers.correlations if (c.task, c.measure, c.outcome) == (task, measure, outcome)]
    told = formats.joined(_rho(rho), f"{outside} out of view" if outside else "")
    return [
        Panel(
            title=f"{title or outcome_title(info, outcome)}; {told}",
            paper_title=info.title + (f", {outside} of {len(everything)} out of view" if outside else ""),
            x=_axis(view.x, MEASURE_TITLES[measure]),
            y=_axis(view.y, outcome_title(info, outcome), is_share=is_share),
            series=[cloud for cloud in clouds if cloud.x],
        )
    ]


def _rho(found: Correlation) -> str:
    return "no correlation defined" if found.rho is None else f"rho {found.rho:+.2f} ({found.num_runs} networks)"


def _cloud(own: Sequence[Solution], measure: str, outcome: str, view: Window, style: Style) -> Series:
    found = points(own, measure, outcome)
    marks = [Mark(at=view.edge(p), direction=view.direction(p), point=p) for p in view.outside(found)]
    x, y = [x for x, _ in found], [y for _, y in found]
    return Series(style=style, x=x, y=y, shape="points", marks=marks)


def _axis(extent: Extent, label: str, *, is_share: bool = False) -> Axis:
    limits = (extent.low, extent.high)
    return Axis(label=label, scale="log" if extent.is_log else "linear", is_share=is_share, limits=limits)


def densities(numbers: Numbers, task: str) -> list[Panel]:
    """The spectral density of the first trained network of each arm, every quadrature node as a narrow bell."""
    firsts: dict[str, Density] = {}
    for solution in numbers.solutions:
        if solution.task == task and solution.density is not None:
            firsts.setdefault(solution.arm, solution.density)
    if not firsts:
        return []
    grid, width = density_grid([density["nodes"] for density in firsts.values()])
    series = [_density(density, numbers.styles[arm], grid, width) for arm, density in firsts.items()]
    top = max(max(one.y) for one in series)
    y = Axis(label="density", scale="log", limits=(SMALLEST_DENSITY, 3.0 * top))
    x = Axis(label="eigenvalue of the loss Hessian")
    return [Panel(title="Spectral density", paper_title=numbers.view.infos[task].title, x=x, y=y, series=series)]


def density_grid(spectra: Sequence[Sequence[float]]) -> tuple[list[float], float]:
    """Points that cover all the spectra, and a hundredth of the widest range: no finer detail of it is real."""
    width = max(max(nodes) - min(nodes) for nodes in spectra) / 100.0 or 0.01
    low, high = min(map(min, spectra)), max(map(max, spectra))
    return np.linspace(low - 4 * width, high + 4 * width, NUM_GRID).tolist(), width


def _density(density: Density, style: Style, grid: list[float], width: float) -> Series:
    values = smoothed_density(density["nodes"], density["weights"], grid, width)
    return Series(style=style, x=grid, y=[max(value, SMALLEST_DENSITY) for value in values])
