"""What the page of a study opens with: a verdict, tiles, and the figures that the study is about, by its name."""

from collections.abc import Callable, Mapping

from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening
from dcao_lab.report.openings.cells import cells
from dcao_lab.report.openings.changes import bars
from dcao_lab.report.openings.costs import costs
from dcao_lab.report.openings.curves import curves
from dcao_lab.report.openings.edge import edge
from dcao_lab.report.openings.gains import gains
from dcao_lab.report.openings.promise import promise
from dcao_lab.report.openings.solutions import solutions
from dcao_lab.report.openings.sweeps import sweeps
from dcao_lab.study.result import StudyResult

OPENINGS: Mapping[str, Callable[[StudyResult, Numbers], Opening]] = {
    "ablation": bars,
    "demo": promise,
    "eos": edge,
    "generalisation": solutions,
    "headline": gains,
    "overhead": costs,
    "quantities": cells,
    "real": cells,
    "robustness": sweeps,
    "transfer": cells,
}


def opening_of(result: StudyResult, numbers: Numbers) -> Opening:
    """The opening of a study; of one with another name, what can be said and drawn of any."""
    return OPENINGS.get(result.study.name, curves)(result, numbers)
