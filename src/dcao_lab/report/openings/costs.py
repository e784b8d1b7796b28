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
    charts = [
        _chart(numbers, "Extra gradient evaluations", lambda cost: cost.evaluations_ratio),
        _chart(numbers, "Extra time", lambda cost: cost.time_ratio),
        _memory(numbers),
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


def _chart(numbers: Numbers, title: str, read: Callable[[Cost], float | None]) -> BarChart:
    shares: dict[str, list[float]] = {}
    for cost in numbers.costs:
        ratio = read(cost)
        if ratio is not None:
            shares.setdefault(cost.arm, []).append(ratio - 1.0)
    bars = [_bar(numbers, arm, own) for arm, own in shares.items()]
    return BarChart(title=title, label="more than the reference", bars=bars, is_share=True)


def _memory(numbers: Numbers) -> BarChart:
    """What each arm holds between steps, that of the bare optimizers too."""
    copies: dict[str, list[float]] = {}
    for cost in numbers.costs:
        if cost.held_copies is not None:
            copies.setdefault(cost.arm, []).append(cost.held_copies)
    bars = [
        Bar(
            style=numbers.styles[arm],
            label=f"{numbers.title(arm)}: {formats.significant(median(own), 2)}",
            value=median(own),
            low=min(own),
            high=max(own),
        )
        for arm, own in copies.items()
    ]
    return BarChart(title="Held between steps", label="copies of the parameters", bars=bars)


def _bar(numbers: Numbers, arm: str, shares: list[float]) -> Bar:
    label = f"{numbers.title(arm)}: {formats.percent_change(1.0 + median(shares))}"
    return Bar(style=numbers.styles[arm], label=label, value=median(shares), low=min(shares), high=max(shares))


def _step_times(numbers: Numbers) -> str:
    """How long a step takes without DCAO."""
    spelled = []
    for task, info in numbers.view.infos.items():
        bare = [cost.milliseconds for cost in numbers.costs if cost.task == task and cost.reference is None]
        if bare:
            spelled.append(f"{formats.significant(median(bare), 2)} ms on {info.title}")
    return f"a step without DCAO takes {formats.listed(spelled)}."
