"""The opening of a study that has no opening of its own: the first of its headlines, and what can be drawn of it."""

from dcao_lab.report.figures.curves import validation_metric
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening
from dcao_lab.report.openings.gains import gains
from dcao_lab.report.sections.base import Section, filled, numbered
from dcao_lab.report.words.headlines import headlines
from dcao_lab.study.result import StudyResult

MOST_PANELS = 6


def curves(result: StudyResult, numbers: Numbers) -> Opening:
    """Gains over references where there are some; else the validation metric over training."""
    found = gains(result, numbers)
    if found.sections:
        return found
    panels = [panel for task in numbers.view.tasks for panel in validation_metric(numbers, task)][:MOST_PANELS]
    section = Section(key="curves", heading="How each arm trains", figures=numbered("curves", panels), columns=3)
    return Opening(verdict=headlines(numbers)[0], sections=filled([section]))
