"""The section on the curvature of the trained networks."""

from dcao_lab.report import formats
from dcao_lab.report.analysis.solutions import MEASURES, OUTCOMES, Correlation, Solution, points
from dcao_lab.report.figures import solutions as figures
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.sections.base import Context, panel, section
from dcao_lab.report.tables.base import table
from dcao_lab.workloads import WorkloadInfo


def solutions(numbers: Numbers, task: str, key: str) -> Context:
    """Curvature of the trained networks of a task, next to how they generalise."""
    found = [solution for solution in numbers.solutions if solution.task == task]
    info = numbers.view.infos[task]
    own = {(c.measure, c.outcome): c for c in numbers.correlations if c.task == task}
    panels = [
        panel(
            f"{key}-{measure}-{outcome}",
            f"{_outcome(info, outcome)}; {_rho(own[measure, outcome])}{_out_of_view(found, measure, outcome, info)}",
            figures.scatter(found, measure, outcome, info, numbers.styles),
        )
        for outcome in OUTCOMES
        for measure in MEASURES
        if (measure, outcome) in own
    ]
    if any(solution.density for solution in found):
        panels.append(panel(f"{key}-density", "Spectral density", figures.densities(found, numbers.styles)))
    caption = (
        "A point is a trained network. Spearman's rho is over all of them: 1 where the sharper one is always higher, "
        "-1 where it is always lower. Networks of one arm are alike, so its p is too small. The density is that of one "
        "network an arm, its quadrature nodes drawn as bells of a hundredth of the range. A triangle at the edge is a "
        "network out of view, further from the middle half of all than three times its length (on a logarithmic axis "
        "at least a factor of 30); point at it for its values."
    )
    return section(
        "solutions",
        "Curvature of the solutions, and generalisation",
        caption,
        figures=panels,
        tables=[_table(numbers, own, task)],
        columns=len(MEASURES),
    )


def _table(numbers: Numbers, own: dict[tuple[str, str], Correlation], task: str) -> Context:
    info = numbers.view.infos[task]
    rows = [
        [
            figures.MEASURE_TITLES[measure],
            _outcome(info, outcome),
            formats.DASH if c.rho is None else f"{c.rho:+.2f}",
            formats.p_value(c.p_value),
            str(c.num_runs),
        ]
        for (measure, outcome), c in own.items()
    ]
    return table("Correlations", ["curvature", "with", "Spearman's rho", "p", "networks"], rows)


def _outcome(info, outcome: str) -> str:
    return figures.OUTCOME_TITLES.get(outcome, formats.metric_title(info))


def _out_of_view(found: list[Solution], measure: str, outcome: str, info: WorkloadInfo) -> str:
    view = figures.view_of(found, measure, outcome, info)
    number = 0 if view is None else len(view.outside(points(found, measure, outcome)))
    return f", {number} out of view" if number else ""


def _rho(c: Correlation) -> str:
    return "no correlation defined" if c.rho is None else f"rho {c.rho:+.2f} ({c.num_runs} networks)"
