"""Bars of what arms gain over their references, with the interval; right of zero is better."""

import math
from collections.abc import Iterator, Sequence

from dcao_lab.paper.drawings import Axis, Bar, BarChart, BarSheet
from dcao_lab.paper.style import literal
from dcao_lab.paper.training_figures import Styles
from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison
from dcao_lab.report.analysis.gains import bar_scale, distinct, gain_interval, gains
from dcao_lab.report.analysis.window import extent
from dcao_lab.report.numbers import Numbers
from dcao_lab.workloads import WorkloadInfo

_SEEN = 0.25  # share of the other side of zero that a bar alone on its side has at least
NOTE = (
    "Bars: mean paired difference to the reference; lines: its 95 % bootstrap interval. Scales differ; what reaches "
    "far beyond the rest is cut off, a bar with its value at the cut."
)


def gain_sheets(numbers: Numbers, styles: Styles) -> Iterator[tuple[str, BarSheet]]:
    """All workloads under their own conditions in one figure; each workload in its own where the conditions vary."""
    charts = list(_own_conditions(numbers, styles))
    if charts:
        yield "gains", BarSheet(charts=charts, note=NOTE)
    for task, info in numbers.view.infos.items():
        found = gains([c for c in numbers.comparisons if c.variation is not None], task)
        if found:
            compared = [c for own in found.values() for c in own]
            rows = [_row(numbers, info, [c for c in compared if c.other == other], styles, is_first=index == 0)
                    for index, other in enumerate(dict.fromkeys(c.other for c in compared))]  # fmt: skip
            charts = [chart for row in rows for chart in row]
            yield f"gains_{task}", BarSheet(charts=charts, columns=len(found), note=f"{info.title}. {NOTE}")


def _own_conditions(numbers: Numbers, styles: Styles) -> Iterator[BarChart]:
    for task, info in numbers.view.infos.items():
        found = gains([c for c in numbers.comparisons if c.variation is None], task).get(None, [])
        rivals = {comparison.other for comparison in found}
        over = f" over {numbers.view.study.arm(found[0].other).title}" if len(rivals) == 1 else ""
        bars = [_bar(info, c, _title(numbers, c, is_named=not over), styles) for c in found]
        if bars:
            yield BarChart(title=info.title, x=axis(info, over, bars), bars=bars)


def _row(
    numbers: Numbers, info: WorkloadInfo, found: Sequence[ArmComparison], styles: Styles, *, is_first: bool
) -> list[BarChart]:
    """A chart for each of the conditions, the arms of one reference in all of them, whether or not they have a bar."""
    arms = [arm for arm in numbers.view.study.arms if arm.name in {c.arm for c in found}]
    labels = distinct([arm.title for arm in arms])
    over = f" over {numbers.view.study.arm(found[0].other).title}"
    charts = []
    for variation in dict.fromkeys(c.variation for c in found):
        own = {c.arm: c for c in found if c.variation == variation}
        bars = [
            _bar(info, own[arm.name], label, styles) if arm.name in own else _no_bar(label, styles[arm.name])
            for arm, label in zip(arms, labels, strict=True)
        ]
        title = formats.variation(variation) if is_first else ""
        charts.append(BarChart(title=title, x=axis(info, over, bars), bars=bars))
    return charts


def _bar(info: WorkloadInfo, comparison: ArmComparison, label: str, styles: Styles) -> Bar:
    scale, interval = bar_scale(info), gain_interval(comparison, info)
    low, high = (None, None) if interval is None else (scale * end for end in interval)
    return Bar(label=label, value=scale * comparison.gain, low=low, high=high, style=styles[comparison.arm])


def _no_bar(label: str, style) -> Bar:
    return Bar(label=label, value=math.nan, low=None, high=None, style=style)


def axis(info: WorkloadInfo, over: str, bars: Sequence[Bar]) -> Axis:
    """Zero, and all bars with their intervals but those far longer than the others, of which a part is seen."""
    ends = [end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None and math.isfinite(end)]
    usual = extent(ends, is_log=False)
    low, high = min(usual.low, 0.0), max(usual.high, 0.0)
    least = _SEEN * (high - low)
    limits = (min(low, -least) if min(ends) < low else low, max(high, least) if max(ends) > high else high)
    return Axis(label=literal(f"gain{over} in {formats.difference_unit(info)}"), limits=limits)


def _title(numbers: Numbers, comparison: ArmComparison, *, is_named: bool) -> str:
    title = numbers.view.study.arm(comparison.arm).title
    return f"{title} over {numbers.view.study.arm(comparison.other).title}" if is_named else title
