"""Figures of the trained networks: curvature against generalisation, and spectral densities."""

from dcao_lab.paper.curves import density_grid
from dcao_lab.paper.drawings import Axis, Cloud, Curve, Panel, Scatter
from dcao_lab.paper.training_figures import Styles
from dcao_lab.report.analysis.solutions import Solution, smoothed_density
from dcao_lab.report.figures.solutions import MEASURE_TITLES
from dcao_lab.report.numbers import Numbers

SMALLEST_DENSITY = 1e-6


def generalisation(numbers: Numbers, styles: Styles, measure: str) -> list[Scatter]:
    """A point a trained network: its generalisation gap against a measure of its curvature."""
    scatters = []
    for task, info in numbers.view.infos.items():
        clouds = [_cloud(numbers, styles, task, arm.name, arm.title, measure) for arm in numbers.view.arms(task)]
        clouds = [cloud for cloud in clouds if len(cloud.x)]
        if clouds:
            x = Axis(label=MEASURE_TITLES[measure], scale="log")
            y = Axis(label="test \N{MINUS SIGN} training loss")
            scatters.append(Scatter(title=info.title, x=x, y=y, clouds=clouds))
    return scatters


def densities(numbers: Numbers, styles: Styles) -> list[Panel]:
    """Spectral density of the loss Hessian, of the first trained network of each arm."""
    panels = []
    for task, info in numbers.view.infos.items():
        firsts: dict[str, Solution] = {}
        for solution in numbers.solutions:
            if solution.task == task and solution.density is not None:
                firsts.setdefault(solution.arm, solution)
        if firsts:
            grid, width = density_grid([solution.density["nodes"] for solution in firsts.values()])
            curves = [
                _density(numbers.view.study.arm(name).title, s, grid, width, styles) for name, s in firsts.items()
            ]
            top = max(max(curve.y) for curve in curves)
            y = Axis(label="density", scale="log", limits=(SMALLEST_DENSITY, 3.0 * top))
            panels.append(Panel(title=info.title, x=Axis(label="eigenvalue"), y=y, curves=curves))
    return panels


def _cloud(numbers: Numbers, styles: Styles, task: str, arm: str, title: str, measure: str) -> Cloud:
    pairs = [
        (solution.measures[measure], solution.outcomes["generalisation_gap"])
        for solution in numbers.solutions
        if (solution.task, solution.arm) == (task, arm)
    ]
    pairs = [(x, y) for x, y in pairs if x is not None and y is not None and x > 0.0]
    return Cloud(label=title, style=styles[arm], x=[x for x, _ in pairs], y=[y for _, y in pairs])


def _density(title: str, solution: Solution, grid: list[float], width: float, styles: Styles) -> Curve:
    values = smoothed_density(solution.density["nodes"], solution.density["weights"], grid, width)
    return Curve(label=title, style=styles[solution.arm], x=grid, y=values)
