"""The course of one run of DCAO: its learning rate, its relative step and s, with the phases of the rule named."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import dcao
from dcao_lab.report.analysis.stability import EDGE, stability_number
from dcao_lab.report.figures.axes import STEPS, thinned, ticks
from dcao_lab.report.figures.drawings import Axis, Level, Panel, Series, Span
from dcao_lab.report.figures.styles import Style
from dcao_lab.runs.runner import StoredRun

PHASES = {"start": "rise", "rise": "rise", "arrived": "under the ceiling", "under the ceiling": "under the ceiling",
          "decay": "decay"}  # fmt: skip
"""What a phase is called, by the word that the reason of a decision of the default rule begins with."""

HEADROOM, FOOTROOM = 0.25, 0.06  # shares of an axis


def course(run: StoredRun, style: Style, best_lr: float | None, best_name: str) -> list[Panel]:
    """Three panels over the steps of ``run``; none for a run without the decisions of the default rule.

    Args:
        run: A run of DCAO.
        style: How its arm is drawn.
        best_lr: A learning rate to compare with; None: none.
        best_name: What that is called.
    """
    decided = [record for record in run.probes if _phase(record)]
    if not decided:
        return []
    spans = list(_spans(decided, run.result.num_steps))
    limit = dcao.policies.Ceiling().largest_relative_step(decided[0].after.momentum or 0.0)
    trained = decided[1:]  # the first probe measures at the lr that was given, which never trains
    panel = partial(_panel, style=style, spans=spans)
    lrs = panel(decided, "learning rate", [record.after.lr for record in decided], keep=best_lr)
    lengths = panel(trained, "relative step", [_relative_step(record) for record in trained], keep=limit)
    numbers = panel(trained, "stability number s", [stability_number(record) for record in trained], keep=EDGE)
    levels = [] if best_lr is None else [Level(y=best_lr, name=best_name)]
    longest = Level(y=limit, name=f"limit at {limit:.2g}")
    return [replace(lrs, levels=levels), replace(lengths, levels=[longest]), replace(numbers, edge=EDGE)]


def _panel(
    records: Sequence[dcao.StepRecord],
    title: str,
    values: Sequence[float | None],
    *,
    style: Style,
    spans: Sequence[Span],
    keep: float | None,
) -> Panel:
    found = [(record.step, value) for record, value in zip(records, values, strict=True) if value is not None]
    pairs = thinned((step, value) for step, value in found if 0.0 < value < math.inf)
    series = Series(style=style, x=[step for step, _ in pairs], y=[value for _, value in pairs], markers="all")
    y = _axis(title, [*series.y, *([] if keep is None else [keep])])
    return Panel(title=title, paper_title=title, x=STEPS, y=y, series=[series], spans=spans)


def _axis(label: str, values: Sequence[float]) -> Axis:
    """All values, with room above them for the names of the phases."""
    low, high = (end(values, default=1.0) for end in (min, max))
    ratio = max(high / low, 2.0)
    limits = (low / ratio**FOOTROOM, high * ratio**HEADROOM)
    values = ticks(limits)
    return Axis(label=label, scale="log", limits=limits, ticks=values, tick_labels=[f"{value:g}" for value in values])


def _spans(records: Sequence[dcao.StepRecord], num_steps: int) -> Iterator[Span]:
    """The phases, each until the next one begins."""
    phases = [(record.step, PHASES[_phase(record)]) for record in records]
    starts = [phases[0], *(after for before, after in pairwise(phases) if after[1] != before[1])]
    for (first, name), (end, _) in pairwise([*starts, (num_steps, "")]):
        yield Span(first=first, end=end, name=name)


def _phase(record: dcao.StepRecord) -> str:
    """The word that the decision's reason begins with; empty for one that is not of the default rule."""
    word = record.decision.reason.partition(":")[0]
    return word if word in PHASES else ""


def _relative_step(record: dcao.StepRecord) -> float | None:
    return None if record.estimate is None else record.estimate.relative_step
