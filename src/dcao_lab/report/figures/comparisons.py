"""Arms against each other: what each gains, when each reaches the target, and all workloads together."""

import math
from collections.abc import Collection, Mapping, Sequence

from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison
from dcao_lab.report.analysis.overall import Overall
from dcao_lab.report.analysis.targets import Reaching
from dcao_lab.report.analysis.window import extent
from dcao_lab.report.figures.axes import EVALUATIONS, share_axis
from dcao_lab.report.figures.drawings import Axis, Bar, BarChart, Panel, Series
from dcao_lab.report.figures.styles import Style
from dcao_lab.report.numbers import Numbers
from dcao_lab.workloads import WorkloadInfo

LEAST_SEEN = 0.25  # share of the other side of zero that a bar alone on its side has at least


def gains(
    numbers: Numbers, task: str, found: Sequence[ArmComparison], labels: Mapping[str, str], *, title: str
) -> BarChart:
    """A bar for each arm: its gain over its reference, with the interval; right of zero is better.

    Args:
        numbers: The study's numbers.
        task: Name of the workload.
        found: The comparisons of the arms with their references, under one condition.
        labels: What each arm's line is called, from top to bottom; one without a comparison stays empty.
        title: What the chart is called.
    """
    info, by_arm = numbers.view.infos[task], {c.arm: c for c in found}
    others = list(dict.fromkeys(numbers.title(c.other) for c in found))
    over = f" over {others[0]}" if len(others) == 1 else ""
    bars = [_gain(info, numbers.styles[arm], label, by_arm.get(arm)) for arm, label in labels.items()]
    return BarChart(
        title=title,
        label=f"gain in {formats.difference_unit(info)}",
        paper_label=f"gain{over} in {formats.difference_unit(info)}",
        bars=bars,
        limits=bar_limits(bars),
    )


def short_titles(numbers: Numbers, arms: Collection[str]) -> dict[str, str]:
    """The arms in the study's order, with titles that leave out what all of them share."""
    present = [arm for arm in numbers.view.study.arms if arm.name in arms]
    titles = distinct([arm.title for arm in present])
    return {arm.name: title for arm, title in zip(present, titles, strict=True)}


def distinct(titles: Sequence[str]) -> list[str]:
    """Titles without the parts that all of them share: next to each other they need not repeat these.

    Example:
        >>> distinct(["DCAO(SGD), rules: lr, weight decay 0.1", "DCAO(SGD), no rules, weight decay 0.1"])
        ['rules: lr', 'no rules']
        >>> distinct(["AdamW", "AdamW, lr 0.1"])
        ['AdamW', 'AdamW, lr 0.1']
    """
    parts = [title.split(", ") for title in titles]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    short = [[part for part in own if part not in shared] for own in parts]
    return [", ".join(own) for own in short] if all(short) else list(titles)


def _gain(info: WorkloadInfo, style: Style, label: str, comparison: ArmComparison | None) -> Bar:
    if comparison is None or comparison.gain is None:
        return Bar(label=label, value=math.nan, style=style)
    scale = 100.0 if info.metric == "accuracy" else 1.0  # accuracy is drawn in points
    better = 1.0 if info.higher_is_better else -1.0
    found = comparison.found.interval.scaled(scale * better)
    low, high = (found.low, found.high) if info.higher_is_better else (found.high, found.low)
    return Bar(label=label, value=scale * comparison.gain, style=style, low=low, high=high)


def bar_limits(bars: Sequence[Bar]) -> tuple[float, float]:
    """Zero, and all bars with their intervals but those far longer than the others, of which a part is in view."""
    ends = [end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None and math.isfinite(end)]
    usual = extent(ends, is_log=False)
    low, high = min(usual.low, 0.0), max(usual.high, 0.0)
    least = LEAST_SEEN * (high - low)
    return (min(low, -least) if min(ends) < low else low, max(high, least) if max(ends) > high else high)


def target_times(numbers: Numbers, task: str) -> list[Panel]:
    """The share of the runs that have reached the target (Kaplan and Meier); no panel where no run has."""
    found = {r.arm: r for r in numbers.reachings.values() if r.task == task}
    if not any(any(reaching.times.reached) for reaching in found.values()):
        return []
    info = numbers.view.infos[task]
    target = formats.metric(info, info.target)
    end = max(time for reaching in found.values() for time in reaching.times.times)
    series = [_reaching(numbers, found[arm.name], end) for arm in numbers.view.arms(task) if arm.name in found]
    panel = Panel(
        title=f"Target: {formats.metric_title(info, 'validation')} {target}",
        paper_title=f"{info.title}: {target}",
        x=EVALUATIONS,
        y=share_axis("runs at the target"),
        series=series,
    )
    return [panel.showing(numbers.leading)]


def _reaching(numbers: Numbers, reaching: Reaching, end: float) -> Series:
    times, style, last = reaching.times, numbers.styles[reaching.arm], reaching.curve[-1][1]
    points = [*reaching.curve, (end if last == 1.0 else max(times.times), last)]  # known only while a run goes on
    censored = [time for time, reached in zip(times.times, times.reached, strict=True) if not reached]
    return Series(
        style=style,
        x=[time for time, _ in points],
        y=[share for _, share in points],
        shape="steps",
        ticks=[(time, max(share for at, share in reaching.curve if at <= time)) for time in censored],
    )


def profiles(numbers: Numbers) -> list[Panel]:
    """The share of the workloads on which an arm needs at most so many times the evaluations of the fastest."""
    found = {} if numbers.overall is None else numbers.overall.profiles
    if not found:
        return []
    end = max(profile.r_max for profile in found.values())
    series = []
    for arm, profile in found.items():
        style, ratios = numbers.styles[arm], sorted({r for r in profile.ratios.values() if 1.0 < r < end})
        x = [1.0, *ratios, end]
        y = [profile.at(ratio) for ratio in x]
        series.append(Series(style=style, x=x, y=y, shape="steps"))
    axis = Axis(label="times the fastest arm's evaluations", limits=(0.9, end + 0.1))
    y_axis = share_axis("share of workloads")
    panel = Panel(title="Performance profiles", paper_title="", x=axis, y=y_axis, series=series)
    return [panel.showing(numbers.leading)]


def normalised_scores(numbers: Numbers, found: Overall) -> BarChart:
    """The interquartile mean of each arm's normalised scores, with its interval, best first."""
    ordered = sorted(found.means.items(), key=lambda pair: -pair[1].value)
    bars = [
        Bar(style=numbers.styles[arm], value=mean.value, low=mean.interval.low, high=mean.interval.high)
        for arm, mean in ordered
    ]
    return BarChart(title="Normalised score", label="interquartile mean", bars=bars, from_zero=False)


def mean_ranks(numbers: Numbers) -> list[BarChart]:
    """Mean ranks over the workloads; none for one arm or one workload, where they say nothing."""
    ranking = None if numbers.overall is None else numbers.overall.ranking
    if ranking is None or ranking.num_workloads < 2:
        return []
    arms = ranking.arms
    return [
        BarChart(
            title="Critical-difference ranking",
            label="mean rank (1: best)",
            bars=[
                Bar(value=rank, style=numbers.styles[arm]) for arm, rank in zip(arms, ranking.mean_ranks, strict=True)
            ],
            from_zero=False,
            critical_difference=ranking.critical_difference,
            groups=[(arms.index(group[0]), arms.index(group[-1])) for group in ranking.groups],
        )
    ]
