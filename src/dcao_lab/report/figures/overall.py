"""Arms over all workloads: profiles, ranking and interquartile means."""

import math

import plotly.graph_objects as go

from dcao_lab.report.analysis.overall import Overall
from dcao_lab.report.figures.base import Figure, rounded, to_json
from dcao_lab.report.figures.styles import Styles, grey_first
from dcao_lab.statistics import PerformanceProfile, Ranking

ROW_HEIGHT = 24
TALLEST = 400


def profiles(overall: Overall, styles: Styles) -> Figure:
    """Share of the workloads on which an arm is within a factor of the fastest."""
    figure = go.Figure()
    for arm in grey_first(overall.profiles, styles):
        xs, ys = _staircase(overall.profiles[arm])
        figure.add_scatter(
            x=xs,
            y=ys,
            mode="lines",
            name=styles[arm].title,
            meta={"arm": arm},
            line=styles[arm].line(2.5, shape="hv"),
        )
    figure.update_xaxes(title="times the fastest arm's gradient evaluations", range=[0.95, _r_max(overall)])
    figure.update_yaxes(title="share of the workloads", tickformat=".0%", range=[-0.02, 1.04])
    figure.update_layout(height=min(TALLEST, max(256, 90 + ROW_HEIGHT * len(overall.arms))))
    return to_json(figure)


def means(overall: Overall, styles: Styles) -> Figure:
    """Interquartile mean of the normalised scores, with interval, best first."""
    figure = go.Figure()
    ordered = sorted(overall.means.items(), key=lambda pair: -pair[1].value)
    for arm, mean in ordered:
        style = styles[arm]
        low, high = (mean.value if end is None else end for end in (mean.interval.low, mean.interval.high))
        figure.add_scatter(
            x=[mean.value],
            y=[style.title],
            mode="markers",
            name=style.title,
            meta={"arm": arm},
            marker=style.marker(9),
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [max(0.0, high - mean.value)],
                "arrayminus": [max(0.0, mean.value - low)],
                "color": style.color,
                "thickness": 2,
            },
        )
    figure.update_xaxes(title="interquartile mean")
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(height=90 + ROW_HEIGHT * len(ordered))
    return to_json(figure)


def critical_difference(ranking: Ranking, styles: Styles) -> Figure:
    """Mean ranks, best first; a bar joins arms that do not differ by more than chance explains."""
    figure = go.Figure()
    for rank, arm in zip(ranking.mean_ranks, ranking.arms, strict=True):
        style = styles[arm]
        figure.add_scatter(
            x=[rank], y=[style.title], mode="markers", name=style.title, meta={"arm": arm}, marker=style.marker(9)
        )
    positions = {arm: i for i, arm in enumerate(ranking.arms)}
    step = 0.12 * max(ranking.mean_ranks)
    for number, group in enumerate(ranking.groups):
        x = max(ranking.mean_ranks) + 0.3 + step * (number + 1) / 2
        ends = [positions[group[0]] - 0.3, positions[group[-1]] + 0.3]
        figure.add_shape(type="line", x0=x, x1=x, y0=ends[0], y1=ends[1], line={"color": "#7a7f87", "width": 4})
    figure.update_xaxes(title="mean rank (1: best)")
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(height=90 + ROW_HEIGHT * len(ranking.arms))
    return to_json(figure)


def _staircase(profile: PerformanceProfile) -> tuple[list[float], list[float]]:
    ratios = sorted(ratio for ratio in profile.ratios.values() if math.isfinite(ratio))
    xs = [1.0, *ratios, max(profile.r_max, *ratios, 1.0)]
    return rounded(xs), rounded(profile.at(x) for x in xs)


def _r_max(overall: Overall) -> float:
    return max(profile.r_max for profile in overall.profiles.values())
