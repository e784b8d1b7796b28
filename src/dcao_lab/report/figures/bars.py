"""What each arm of an ablation brings: a bar from zero to its gain over the reference, with interval."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison
from dcao_lab.report.analysis.gains import bar_scale, distinct, gain_interval
from dcao_lab.report.figures.base import Figure, to_json
from dcao_lab.report.figures.styles import Styles
from dcao_lab.workloads import WorkloadInfo

ROW_HEIGHT = 24


def gains(comparisons: Sequence[ArmComparison], info: WorkloadInfo, styles: Styles) -> Figure:
    """A bar an arm, all under the same conditions; right of zero is better, whichever way the metric goes."""
    scale = bar_scale(info)
    figure = go.Figure()
    for c, label in zip(comparisons, distinct([styles[c.arm].title for c in comparisons]), strict=True):
        gain = c.gain or 0.0
        low, high = gain_interval(c, info) or (gain, gain)
        style = styles[c.arm]
        figure.add_bar(
            x=[scale * gain],
            y=[label],
            orientation="h",
            width=0.7,
            name=style.title,
            meta={"arm": c.arm},
            marker={"color": style.color, "opacity": 0.45},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [scale * (high - gain)],
                "arrayminus": [scale * (gain - low)],
                "color": style.color,
                "thickness": 2,
                "width": 3,
            },
        )
    figure.update_xaxes(
        title=f"gain in {formats.difference_unit(info)} (right: better)",
        zeroline=True,
        zerolinewidth=2,
        nticks=6,
        tickangle=0,
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(height=90 + ROW_HEIGHT * len(comparisons), barmode="overlay")
    return to_json(figure)
