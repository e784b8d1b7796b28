"""What the page of a study opens with: a verdict, tiles, and the figures that the study is about, by its name."""

from collections.abc import Callable, Mapping

from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening
from dcao_lab.report.openings.promise import promise
from dcao_lab.study.result import StudyResult

OPENINGS: Mapping[str, Callable[[StudyResult, Numbers], Opening]] = {"demo": promise}


def opening_of(result: StudyResult, numbers: Numbers) -> Opening | None:
    """The opening of a study; None where it has none, and its page begins with all that happened."""
    make = OPENINGS.get(result.study.name)
    return make(result, numbers) if make else None
