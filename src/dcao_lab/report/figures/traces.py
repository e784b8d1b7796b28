"""What the watched runs show over their steps: s and the sharpness against the edge, and what trains."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import dcao
from dcao_lab.report import formats
from dcao_lab.report.analysis.shown import conditions, families
from dcao_lab.report.analysis.stability import (
    EDGE,
    largest_ritz_value,
    preconditioned_number,
    running_median,
    stability_number,
)
from dcao_lab.report.figures.axes import STEPS, thinned
from dcao_lab.report.figures.drawings import Axis, Panel, Series
from dcao_lab.report.figures.styles import PALE_EDGE_COLOR, Style
from dcao_lab.report.numbers import Numbers
from dcao_lab.runs.runner import StoredRun

FEW_ARMS = 6  # of more arms in one panel, a page at first and a paper show the leading ones
OWN_EDGE = "edge of SGD alone, 2 (1 + momentum) / lr"
HYPERPARAMETERS = {
    "lr": Axis(label="learning rate", scale="log"),
    "momentum": Axis(label="momentum", keep=(0.0,)),
    "weight_decay": Axis(label="weight decay", keep=(0.0,)),
}

Read = Callable[[dcao.StepRecord], float | None]
Draw = Callable[[StoredRun, Style], Sequence[Series]]


def stability(numbers: Numbers, task: str, *, arms: Collection[str] = ()) -> list[Panel]:
    """The stability number: a dot for each probe, a line for their running median; of ``arms`` alone, in one panel."""
    axis = _edged("stability number s")
    return _panels(numbers, task, "Stability number s", axis, _smoothed, edge=EDGE, arms=arms)


def raw_stability(numbers: Numbers, task: str) -> list[Panel]:
    """Learning rate times the largest Ritz value of the loss Hessian."""
    label = "lr times largest Ritz value"
    return _panels(numbers, task, label, _edged(label), _reading(raw_product), edge=EDGE)


def preconditioned_stability(numbers: Numbers, task: str, *, arms: Collection[str] = ()) -> list[Panel]:
    """The stability number by the largest eigenvalue of the preconditioned Hessian; of ``arms`` alone, in one panel."""
    axis = _edged("s, preconditioned")
    return _panels(numbers, task, "Preconditioned s", axis, _reading(preconditioned_number), edge=EDGE, arms=arms)


def sharpness(numbers: Numbers, task: str) -> list[Panel]:
    """The largest Ritz value of the loss Hessian, beside its own edge for SGD alone."""
    axis = Axis(label="largest Ritz value", scale="log")
    return _panels(numbers, task, "Largest Ritz value", axis, _with_own_edge)


def hyperparameter(numbers: Numbers, task: str, name: str) -> list[Panel]:
    """The learning rate, momentum or weight decay (``name``) that trained at each step."""
    axis = HYPERPARAMETERS[name]
    return _panels(numbers, task, axis.label.capitalize(), axis, lambda run, style: _trained(run, style, name))


def watched(numbers: Numbers, task: str) -> dict[str, dict[str, StoredRun]]:
    """The first watched run of each arm, by what the title of their panel adds: the arms' family, the conditions."""
    found, view = {}, numbers.view
    for variation in conditions(view, task, view.watched):
        runs = {p.arm: own[0] for p, own in view.watched.items() if (p.task, p.variation) == (task, variation)}
        for family, arms in families(view.study, runs, FEW_ARMS).items():
            found[formats.joined(family, formats.variation(variation))] = {arm: runs[arm] for arm in arms}
    return found


def _chosen(numbers: Numbers, task: str, arms: Collection[str]) -> dict[str, dict[str, StoredRun]]:
    """The watched runs by family; of ``arms`` alone, where there are some, together under the workload's title."""
    found = watched(numbers, task)
    if not arms:
        return found
    runs = {arm: run for own in found.values() for arm, run in own.items() if arm in arms}
    return {numbers.view.infos[task].title: runs} if runs else {}


def is_crowded(runs: Mapping[str, StoredRun]) -> bool:
    """Whether a panel of these runs shows the leading arms alone."""
    return len(runs) > FEW_ARMS


def _panels(
    numbers: Numbers,
    task: str,
    title: str,
    y: Axis,
    draw: Draw,
    *,
    edge: float | None = None,
    arms: Collection[str] = (),
) -> list[Panel]:
    """A panel for each family of arms and each of the task's conditions in which a run has a value."""
    panels = []
    for where, runs in _chosen(numbers, task, arms).items():
        series = [one for arm, run in runs.items() for one in draw(run, numbers.styles[arm]) if len(one.y)]
        titles = [formats.joined(first, where) for first in (title, numbers.view.infos[task].title)]
        panel = Panel(title=titles[0], paper_title=titles[1], x=STEPS, y=y, series=series, edge=edge)
        panels.append(panel.showing(numbers.leading) if is_crowded(runs) else panel)
    return [panel for panel in panels if panel.series]


def _edged(label: str) -> Axis:
    return Axis(label=label, scale="log", keep=(EDGE, 1.5 * EDGE))  # with room for the edge's name


def raw_product(record: dcao.StepRecord) -> float | None:
    """Learning rate before the decision times the largest Ritz value."""
    value = largest_ritz_value(record)
    return None if value is None else record.before.lr * value


def own_edge(run: StoredRun) -> tuple[list[int], list[float]]:
    """Where the largest Ritz value meets the edge of plain SGD, over the steps; of other optimizers it has none."""
    if run.config.optimizer != "sgd":
        return [], []
    before = [(record.step, record.before) for record in thinned(run.probes)]
    return [step for step, _ in before], [EDGE * (1.0 + (at.momentum or 0.0)) / at.lr for _, at in before]


def trace_of(run: StoredRun, read: Read) -> tuple[list[int], list[float]]:
    """Steps and values of the probes that have one above zero: others have no place on a logarithmic scale."""
    pairs = [(record.step, read(record)) for record in run.probes]
    kept = thinned((step, value) for step, value in pairs if value is not None and 0.0 < value < math.inf)
    return [step for step, _ in kept], [value for _, value in kept]


def _reading(read: Read) -> Draw:
    def draw(run: StoredRun, style: Style) -> list[Series]:
        steps, values = trace_of(run, read)
        return [Series(style=style, x=steps, y=values, markers="all")]

    return draw


def _smoothed(run: StoredRun, style: Style) -> list[Series]:
    steps, values = trace_of(run, stability_number)
    probes = Series(label="a probe", style=style, x=steps, y=values, shape="points")
    return [Series(style=style, x=steps, y=running_median(values), behind=[probes])]


def _with_own_edge(run: StoredRun, style: Style) -> list[Series]:
    steps, values = own_edge(run)
    pale = replace(style, color=PALE_EDGE_COLOR, dash=(), is_highlighted=False, is_backdrop=True)
    edge = Series(label=OWN_EDGE, style=pale, x=steps, y=values, markers="none")
    return [*_reading(largest_ritz_value)(run, style), edge]


def _trained(run: StoredRun, style: Style, name: str) -> list[Series]:
    """From the probes' records; the learning rate of a run without them from its evaluations."""
    if run.probes:
        pairs = [(record.step, getattr(record.after, name)) for record in thinned(run.probes)]
    else:
        pairs = [(point.step, point.lr) for point in thinned(run.points)] if name == "lr" else []
    values = [math.nan if value is None else value for _, value in pairs]
    has_any = any(map(math.isfinite, values))
    return [Series(style=style, x=[step for step, _ in pairs], y=values, shape="steps")] if has_any else []
