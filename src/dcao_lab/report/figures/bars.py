"""What each arm of an ablation brings: its gain over the reference, with interval."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison
from dcao_lab.report.figures.base import Figure, to_json
from dcao_lab.report.figures.styles import Styles
from dcao_lab.workloads import WorkloadInfo

ROW_HEIGHT = 26


def gains(comparisons: Sequence[ArmComparison], info: WorkloadInfo, styles: Styles) -> Figure:
    """A point and an interval an arm; right of zero is better, whichever way the metric goes."""
    sign = 1.0 if info.higher_is_better else -1.0
    scale = 100.0 if info.metric == "accuracy" else 1.0
    prefix = len(common_prefix([styles[c.arm].title for c in comparisons]))
    figure = go.Figure()
    for c in comparisons:
        ends = [c.found.interval.low, c.found.interval.high]
        gain = c.gain or 0.0
        low, high = sorted(gain if end is None else sign * end for end in ends)
        style = styles[c.arm]
        changed = (
            f", {c.variation.axis} {formats.axis_value(c.variation.axis, c.variation.value)}" if c.variation else ""
        )
        title = style.title + changed
        figure.add_scatter(
            x=[scale * gain],
            y=[title[prefix:]],
            mode="markers",
            name=title,
            meta={"arm": c.arm},
            marker={
                "color": style.color,
                "size": 9,
                "symbol": style.symbol,
                "line": {"width": 2, "color": style.color},
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [scale * (high - gain)],
                "arrayminus": [scale * (gain - low)],
                "color": style.color,
                "thickness": 2,
            },
        )
    figure.update_xaxes(
        title=f"gain in {formats.difference_unit(info)} (right: better)", zeroline=True, zerolinewidth=2
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(height=90 + ROW_HEIGHT * len(comparisons))
    return to_json(figure)


def common_prefix(titles: Sequence[str]) -> str:
    """What all titles begin with, up to their first comma: next to each other they need not repeat it.

    Example:
        >>> common_prefix(["DCAO(AdamW), target=1", "DCAO(AdamW), target=1.5"])
        'DCAO(AdamW), '
    """
    heads = {title.partition(", ")[0] for title in titles}
    is_shared = len(heads) == 1 and all(", " in title for title in titles)
    return f"{heads.pop()}, " if is_shared else ""
