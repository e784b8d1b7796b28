"""The opening of a study of the edge of stability: s beside the edge while a network trains."""

from dcao_lab.report.analysis.view import StudyView
from dcao_lab.report.figures import traces
from dcao_lab.report.figures.drawings import Panel
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening
from dcao_lab.report.sections.base import Section, filled, numbered
from dcao_lab.report.words import measured
from dcao_lab.report.words.headlines import headlines
from dcao_lab.study.result import StudyResult

CAPTION = (
    "Above 2 the steps are too long for the curvature that they meet. Preconditioned s is by the largest eigenvalue of "
    "the preconditioned Hessian, which of plain gradient descent is lr times the sharpness: what there is of s in full "
    "batch. The stability number s is along the step itself, mini-batches and momentum included; dots are probes, "
    "lines their running median. One watched run an arm."
)


def edge(_: StudyResult, numbers: Numbers) -> Opening:
    """A row for each workload: s by the sharpness and s along the step, of the bare optimizers and of DCAO."""
    arms = _arms(numbers.view)
    panels = [panel for task in numbers.view.tasks for panel in _panels(numbers, task, arms)]
    section = Section(
        key="edge",
        heading="Where training is beside the edge of stability",
        caption=CAPTION,
        figures=numbered("edge", panels),
        columns=2,
    )
    verdict = measured.edge(numbers, arms) or headlines(numbers)[0]
    return Opening(verdict=verdict, sections=filled([section]))


def _arms(view: StudyView) -> set[str]:
    """DCAO as it comes, and what it is held against."""
    own = [arm for arm in view.study.arms if arm.optimizer.startswith("dcao:") and "rule" not in dict(arm.settings)]
    return {arm.name for arm in own} | {arm.reference for arm in own if arm.reference is not None}


def _panels(numbers: Numbers, task: str, arms: set[str]) -> list[Panel]:
    return [
        panel
        for draw in (traces.preconditioned_stability, traces.stability)
        for panel in draw(numbers, task, arms=arms)
    ]
