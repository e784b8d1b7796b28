"""The opening of an ablation: what each change gains over what it changes."""

import math
from dataclasses import replace
from itertools import groupby

from dcao_lab.report.analysis.changes import Change, changes
from dcao_lab.report.figures.comparisons import bar_limits
from dcao_lab.report.figures.drawings import Bar, BarChart
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening
from dcao_lab.report.sections.base import Section, filled, numbered
from dcao_lab.report.words.changing import extremes, summary
from dcao_lab.study.result import StudyResult

MOST_ROWS = 14  # of a chart
CAPTION = (
    "A bar is the median over workloads and initial learning rates of the relative gain of the final metric, right of "
    "zero where the change is better than what it changes; its line reaches from the worst to the best of these. One "
    "scale for all; a triangle marks a bar that goes on beyond it, and its number is beside its name."
)


def bars(_: StudyResult, numbers: Numbers) -> Opening:
    """Charts of the changes of what DCAO steers, those of one reference together."""
    found = changes(numbers.view, numbers.results)
    own = [one for one in found if numbers.view.is_wrapped(one.reference)] or list(found)
    charts = [
        chart
        for reference, group in groupby(sorted(own, key=lambda one: one.reference), key=lambda one: one.reference)
        for chart in _charts(numbers, reference, list(group))
    ]
    limits = bar_limits([bar for chart in charts for bar in chart.bars]) if charts else (0.0, 0.0)
    shown = [replace(one, limits=limits, is_cut=True) for one in charts]
    section = Section(
        key="changes",
        heading="What each change gains over what it changes",
        caption=CAPTION,
        figures=numbered("changes", shown),
        columns=3,
    )
    return Opening(verdict=extremes(numbers, own), sections=filled([section]), numbers={"changes": list(found)})


def _charts(numbers: Numbers, reference: str, found: list[Change]) -> list[BarChart]:
    num_parts = math.ceil(len(found) / MOST_ROWS)
    rows = math.ceil(len(found) / num_parts)
    parts = [found[first : first + rows] for first in range(0, len(found), rows)]
    name = f"Changes of {numbers.title(reference)}"
    return [
        BarChart(
            title=name if len(parts) == 1 else f"{name}, {number} of {len(parts)}",
            label="relative gain, %",
            bars=[_bar(numbers, one) for one in part],
        )
        for number, part in enumerate(parts, start=1)
    ]


def _bar(numbers: Numbers, one: Change) -> Bar:
    low, high = (100 * min(one.gains), 100 * max(one.gains)) if len(one.gains) > 1 else (None, None)
    label, value = summary(numbers, one), 100 * one.median
    return Bar(style=numbers.styles[one.arm], label=label, value=value, low=low, high=high)
