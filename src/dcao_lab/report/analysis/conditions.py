"""Under which conditions curves are drawn."""

from dcao_lab.report.analysis.view import Runs, StudyView
from dcao_lab.study.config import Variation


def conditions(view: StudyView, task: str, runs: Runs) -> list[Variation | None]:
    """The workload's own, or else a few values of what varies first: its smallest, middle and largest."""
    present = {place.variation for place in runs if place.task == task}
    if None in present or not present:
        return [None] if present else []
    ordered = [variation for variation in view.study.variations if variation in present]
    first = sorted((v for v in ordered if v.axis == ordered[0].axis), key=lambda v: v.value)
    return [first[i] for i in sorted({0, (len(first) - 1) // 2, len(first) - 1})]
