"""The opening of a study of solutions: how they generalise, against their sharpness."""

from dcao_lab.report.figures.solutions import scatter
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening
from dcao_lab.report.sections.base import Section, filled, numbered
from dcao_lab.report.words import measured
from dcao_lab.study.result import StudyResult

CAPTION = (
    "A point is a trained network; rho is Spearman's, 1 where the sharper one is always the one with the larger gap "
    "between test and training loss, -1 where it is always the one with the smaller. A triangle at the edge is a "
    "network out of view; point at it for its values."
)
OUTCOME = "generalisation_gap"


def solutions(_: StudyResult, numbers: Numbers) -> Opening:
    """A panel for each workload and measure of curvature that has one."""
    measures = list(dict.fromkeys(one.measure for one in numbers.correlations if one.outcome == OUTCOME))
    panels = [
        panel
        for task, info in numbers.view.infos.items()
        for one in measures
        for panel in scatter(numbers, task, one, OUTCOME, title=info.title)
    ]
    section = Section(
        key="solutions",
        heading="The gap between test and training loss, against curvature",
        caption=CAPTION,
        figures=numbered("solutions", panels),
        columns=max(1, len(measures)),
    )
    verdict = measured.flatness(numbers) or "No curvature of trained networks is there yet."
    return Opening(verdict=" ".join(filter(None, (verdict, measured.flatter(numbers)))), sections=filled([section]))
