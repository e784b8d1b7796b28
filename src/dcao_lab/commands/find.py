"""A learning rate for a bare optimizer on a workload, to read and to plot."""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from rich.console import Console

import dcao
from dcao_lab.baselines import BuildRequest, get_baseline
from dcao_lab.config import require_lr_and_seed
from dcao_lab.errors import LabError
from dcao_lab.files import jsontext
from dcao_lab.files.plotly_basic import write_figure
from dcao_lab.report import formats
from dcao_lab.workloads import StartRequest, get_workload

CURVE = "find-lr.json"
PAGE = "find-lr.html"
GIVEN_LR = 1e-3  # what the optimizer is built with, which does not matter
QUANTITIES = {"loss": "loss", "s": "s", "relative_step": "relative step", "agreement": "agreement"}


def find(workload: str, *, optimizer: str, seed: int, num_steps: int) -> dcao.FoundLr:
    """The lr for ``optimizer`` on the workload, found on its first batches.

    Raises:
        LabError: The optimizer is none that DCAO knows the steps of.
    """
    require_lr_and_seed(GIVEN_LR, seed)
    baseline = get_baseline(optimizer)
    if baseline.is_wrapped or not baseline.can_be_watched:
        raise LabError(f"find-lr needs a bare optimizer that DCAO knows, got {optimizer}; sgd, adam and adamw are some")
    torch.set_num_threads(1)  # as in a run
    problem = get_workload(workload).start(StartRequest(seed=seed))
    bare = baseline.build(problem, BuildRequest(lr=GIVEN_LR, seed=seed))
    return dcao.find_lr(bare, problem.batches, problem.loss, num_steps=num_steps)


def show(found: dcao.FoundLr, console: Console) -> None:
    """Print the number, its reason and its cost."""
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    say(f"lr {formats.learning_rate(found.lr)}, for warmup and cosine" if found.lr is not None else "no lr was found")
    say(found.reason)
    if found.lr is not None:
        say(
            f"there: s {formats.significant(found.s)}, relative step {formats.significant(found.relative_step)}, "
            f"agreement of successive gradients {formats.significant(found.agreement)}"
        )
    say(f"{formats.count(found.cost)} gradient evaluations, in {len(found.curve)} steps")


def write(found: dcao.FoundLr, title: str, folder: Path) -> list[Path]:
    """Write the curve as JSON and as a page that works offline; returns the two paths."""
    folder.mkdir(parents=True, exist_ok=True)
    curve, page = folder / CURVE, folder / PAGE
    jsontext.write(curve, asdict(found))
    write_figure(_figure(found, title), title, page)
    return [curve, page]


def _figure(found: dcao.FoundLr, title: str) -> go.Figure:
    """Each quantity against lr, one below the other, with a line at the lr found."""
    figure = make_subplots(rows=len(QUANTITIES), cols=1, shared_xaxes=True, vertical_spacing=0.04)
    lrs = [point.lr for point in found.curve]
    for row, (name, words) in enumerate(QUANTITIES.items(), start=1):
        values = [getattr(point, name) for point in found.curve]
        figure.add_trace(go.Scatter(x=lrs, y=values, mode="lines", name=words), row=row, col=1)
        figure.update_yaxes(title_text=words, row=row, col=1)
    figure.update_xaxes(type="log")
    figure.update_xaxes(title_text="learning rate", row=len(QUANTITIES), col=1)
    if found.lr is not None:
        figure.add_vline(x=found.lr, line_dash="dash")
    figure.update_layout(title=title, showlegend=False, height=900)
    return figure
