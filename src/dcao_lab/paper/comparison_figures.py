"""Figures that compare arms: robustness, time to target, profiles and ranks; of many arms the leading ones."""

import math

from dcao_lab.paper.drawings import Axis, Curve, Panel, RankDiagram, Sheet
from dcao_lab.paper.training_figures import Styles, metric_axis, within_reach
from dcao_lab.report import formats
from dcao_lab.report.analysis.robustness import Sweep
from dcao_lab.report.analysis.targets import Reaching
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.words import crowding
from dcao_lab.statistics import PerformanceProfile

MOST_TICKS = 6


def varied_axes(numbers: Numbers) -> list[str]:
    """The axes along which arms were varied, and not only tuned."""
    return list(dict.fromkeys(sweep.axis for sweep in numbers.sweeps if sweep.source == "variations"))


def robustness(numbers: Numbers, styles: Styles, axis: str) -> Sheet:
    """Final metric along an axis: median and range over seeds; a cross where the median run diverged."""
    panels = []
    for task, info in numbers.view.infos.items():
        own = [s for s in numbers.sweeps if (s.task, s.axis, s.source) == (task, axis, "variations")]
        chosen = [s for s in own if s.arm in numbers.leading]
        if not chosen:
            continue
        x, places = _varied(axis, chosen)
        curves = [_sweep(numbers.view.study.arm(sweep.arm).title, sweep, styles, places) for sweep in chosen]
        y = within_reach(metric_axis(info), [value for curve in curves for value in curve.y])
        worst = "bottom" if info.higher_is_better else "top"
        panels.append(Panel(title=info.title, x=x, y=y, curves=curves, worst=worst))
    note = f"Lines: medians over seeds; bars: the range of the runs that did not diverge. {crowding.on_paper(numbers)}"
    return Sheet(panels=panels, note=note)


def times_to_target(numbers: Numbers, styles: Styles) -> Sheet:
    """Share of the runs that have reached the target (Kaplan and Meier); a tick where a run ended without it."""
    panels = []
    for task, info in numbers.view.infos.items():
        chosen = [r for r in numbers.reachings.values() if r.task == task and r.arm in numbers.leading]
        if any(any(reaching.times.reached) for reaching in chosen):
            ordered = sorted(chosen, key=lambda reaching: list(styles).index(reaching.arm))
            curves = [_reaching(numbers.view.study.arm(r.arm).title, r, styles) for r in ordered]
            title = f"{info.title}: {formats.metric(info, info.target)}"
            y = Axis(label="runs at the target", format="share", limits=(-0.03, 1.05))
            panels.append(Panel(title=title, x=Axis(label="gradient evaluations"), y=y, curves=curves))
    return Sheet(panels=panels, note=crowding.on_paper(numbers))


def profiles(numbers: Numbers, styles: Styles) -> Sheet:
    """Share of the workloads on which an arm needs at most so many times the evaluations of the fastest."""
    if numbers.overall is None or not any(map(_has_finite, numbers.overall.profiles.values())):
        return Sheet(panels=())
    found = {arm: own for arm, own in numbers.overall.profiles.items() if arm in numbers.leading}
    end = max(profile.r_max for profile in found.values())
    curves = [_profile(numbers.view.study.arm(arm).title, profile, end, styles[arm]) for arm, profile in found.items()]
    x = Axis(label="times the fastest arm's evaluations", limits=(0.9, end + 0.1))
    y = Axis(label="share of workloads", format="share", limits=(-0.03, 1.05))
    return Sheet(panels=[Panel(title="", x=x, y=y, curves=curves)], note=crowding.on_paper(numbers))


def rank_diagram(numbers: Numbers) -> RankDiagram | None:
    """Mean ranks over the workloads; None for one arm or one workload, where they say nothing."""
    ranking = None if numbers.overall is None else numbers.overall.ranking
    if ranking is None or ranking.num_workloads < 2:
        return None
    positions = {arm: position for position, arm in enumerate(ranking.arms)}
    return RankDiagram(
        labels=[numbers.view.study.arm(arm).title for arm in ranking.arms],
        ranks=ranking.mean_ranks,
        critical_difference=ranking.critical_difference,
        groups=[(positions[group[0]], positions[group[-1]]) for group in ranking.groups],
    )


def _sweep(title: str, sweep: Sweep, styles: Styles, places: dict[float, float]) -> Curve:
    finite = [[value for value in values if value is not None] for _, _, values in sweep.points]
    medians = [math.nan if median is None else median for _, median, _ in sweep.points]
    return Curve(
        label=title,
        style=styles[sweep.arm],
        x=[places[value] for value, _, _ in sweep.points],
        y=medians,
        low=[min(own, default=math.nan) if math.isfinite(m) else m for own, m in zip(finite, medians, strict=True)],
        high=[max(own, default=math.nan) if math.isfinite(m) else m for own, m in zip(finite, medians, strict=True)],
        has_bars=True,
        lost=[places[value] for value, median, _ in sweep.points if median is None],
    )


def _varied(axis: str, sweeps: list[Sweep]) -> tuple[Axis, dict[float, float]]:
    """The axis, and where on it each value is: side by side where one is 0, which has no place among powers of ten."""
    values = sorted({value for sweep in sweeps for value, _, _ in sweep.points})
    label = formats.axis_title(axis)
    if values[0] > 0.0:
        places = {value: value for value in values}
        return Axis(label=label, scale="log", ticks=values if len(values) <= MOST_TICKS else ()), places
    spelled = [formats.axis_value(axis, value) for value in values]
    return Axis(label=label, ticks=range(len(values)), tick_labels=spelled), {v: i for i, v in enumerate(values)}


def _reaching(title: str, reaching: Reaching, styles: Styles) -> Curve:
    times = reaching.times
    censored = [time for time, reached in zip(times.times, times.reached, strict=True) if not reached]
    end = max(times.times)
    points = [*reaching.curve, (end, reaching.curve[-1][1])]
    return Curve(
        label=title,
        style=styles[reaching.arm],
        x=[time for time, _ in points],
        y=[share for _, share in points],
        is_step=True,
        ticks=[(time, max(share for at, share in reaching.curve if at <= time)) for time in censored],
    )


def _profile(title: str, profile: PerformanceProfile, end: float, style) -> Curve:
    inner = sorted({ratio for ratio in profile.ratios.values() if ratio < end})
    xs = [1.0, *(ratio for ratio in inner if ratio > 1.0), end]
    return Curve(label=title, style=style, x=xs, y=[profile.at(x) for x in xs], is_step=True)


def _has_finite(profile: PerformanceProfile) -> bool:
    return any(map(math.isfinite, profile.ratios.values()))
