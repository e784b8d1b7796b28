"""Figures of the trained networks: curvature against generalisation, and spectral densities."""

from dcao_lab.paper.curves import density_grid
from dcao_lab.paper.drawings import Axis, Cloud, Curve, Panel, Scatter, Sheet
from dcao_lab.paper.style import LineStyle
from dcao_lab.paper.training_figures import Styles
from dcao_lab.report.analysis.solutions import Solution, points, smoothed_density
from dcao_lab.report.analysis.window import Extent, Window
from dcao_lab.report.figures.solutions import MEASURE_TITLES, view_of
from dcao_lab.report.numbers import Numbers
from dcao_lab.study import Arm

SMALLEST_DENSITY = 1e-6
OUT_OF_VIEW = (
    "A triangle at the edge: a network out of view, further from the middle half of all than three times its length "
    "(on a logarithmic axis at least a factor of 30)."
)


def generalisation(numbers: Numbers, styles: Styles, measure: str) -> list[Scatter]:
    """A point a trained network: its generalisation gap against a measure of its curvature."""
    scatters = []
    for task, info in numbers.view.infos.items():
        found = [solution for solution in numbers.solutions if solution.task == task]
        view = view_of(found, measure, "generalisation_gap", info)
        if view is not None:
            clouds = [_cloud(arm, [s for s in found if s.arm == arm.name], measure, view, styles[arm.name])
                      for arm in numbers.view.arms(task)]  # fmt: skip
            x = _axis(view.x, MEASURE_TITLES[measure])
            y = _axis(view.y, "test \N{MINUS SIGN} training loss")
            clouds = [cloud for cloud in clouds if len(cloud.x)]
            scatters.append(Scatter(title=_title(info.title, clouds), x=x, y=y, clouds=clouds))
    return scatters


def note(scatters: list[Scatter]) -> str:
    """What the triangles are, where there are any."""
    return OUT_OF_VIEW if any(cloud.marks for scatter in scatters for cloud in scatter.clouds) else ""


def _title(workload: str, clouds: list[Cloud]) -> str:
    outside, total = sum(len(cloud.marks) for cloud in clouds), sum(len(cloud.x) for cloud in clouds)
    return f"{workload}, {outside} of {total} out of view" if outside else workload


def _cloud(arm: Arm, own: list[Solution], measure: str, view: Window, style: LineStyle) -> Cloud:
    found = points(own, measure, "generalisation_gap")
    marks = [(*view.edge(point), view.direction(point)) for point in view.outside(found)]
    return Cloud(label=arm.title, style=style, x=[x for x, _ in found], y=[y for _, y in found], marks=marks)


def _axis(extent: Extent, label: str) -> Axis:
    return Axis(label=label, scale="log" if extent.is_log else "linear", limits=(extent.low, extent.high))


def densities(numbers: Numbers, styles: Styles) -> Sheet:
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
    return Sheet(panels=panels)


def _density(title: str, solution: Solution, grid: list[float], width: float, styles: Styles) -> Curve:
    values = smoothed_density(solution.density["nodes"], solution.density["weights"], grid, width)
    return Curve(label=title, style=styles[solution.arm], x=grid, y=values)
