"""The opening of a study of costs: what each arm of DCAO spends more than its reference."""

from collections.abc import Callable
from statistics import median

from dcao_lab.report import formats
from dcao_lab.report.analysis.costs import Cost
from dcao_lab.report.analysis.view import is_default
from dcao_lab.report.figures.drawings import Bar, BarChart
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening
from dcao_lab.report.sections.base import Section, filled, numbered
from dcao_lab.report.words import measured
from dcao_lab.study.result import StudyResult

CAPTION = (
    "A bar is the median over the workloads, its line from the least to the most. Where a step of the bare optimizer "
    "is short, the same measurement is a larger share of its time: "
)


def costs(_: StudyResult, numbers: Numbers) -> Opening:
    """Gradient evaluations, time and memory, beside each other."""
    more = "more than the reference"
    charts = [
        _chart(numbers, "Extra gradient evaluations", more, lambda cost: _more(cost.evaluations_ratio), is_share=True),
        _chart(numbers, "Extra time", more, lambda cost: _more(cost.time_ratio), is_share=True),
        _chart(numbers, "Held between steps", "copies of the parameters", lambda cost: cost.held_copies),
    ]
    section = Section(
        key="costs",
        heading="What a training step costs more than the reference's",
        caption=CAPTION + _step_times(numbers),
        figures=numbered("costs", [chart for chart in charts if chart.bars]),
        columns=3,
    )
    own = [arm.name for arm in numbers.view.study.arms if is_default(arm)]
    verdict = (
        measured.cost_of(numbers, own, has_time=True)
        or measured.cost(numbers)
        or "No cost can be held against a reference yet."
    )
    return Opening(verdict=verdict, sections=filled([section]))


def _more(ratio: float | None) -> float | None:
    return None if ratio is None else ratio - 1.0


def _chart(
    numbers: Numbers, title: str, label: str, read: Callable[[Cost], float | None], *, is_share: bool = False
) -> BarChart:
    """A bar for each arm that has the value on a workload."""
    by_arm: dict[str, list[float]] = {}
    for cost in numbers.costs:
        value = read(cost)
        if value is not None:
            by_arm.setdefault(cost.arm, []).append(value)
    bars = [_bar(numbers, arm, own, is_share=is_share) for arm, own in by_arm.items()]
    return BarChart(title=title, label=label, bars=bars, is_share=is_share)


def _bar(numbers: Numbers, arm: str, values: list[float], *, is_share: bool) -> Bar:
    typical = median(values)
    spelled = formats.percent_change(1.0 + typical) if is_share else formats.significant(typical, 2)
    label = f"{numbers.title(arm)}: {spelled}"
    return Bar(style=numbers.styles[arm], label=label, value=typical, low=min(values), high=max(values))


def _step_times(numbers: Numbers) -> str:
    """How long a step takes without DCAO."""
    spelled = []
    for task, info in numbers.view.infos.items():
        bare = [cost.milliseconds for cost in numbers.costs if cost.task == task and cost.reference is None]
        if bare:
            spelled.append(f"{formats.significant(median(bare), 2)} ms on {info.title}")
    return f"a step without DCAO takes {formats.listed(spelled)}."
