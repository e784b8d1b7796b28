"""The figures of a paper: the same panels as on the page, those of all workloads together."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison, gains
from dcao_lab.report.analysis.solutions import MEASURES
from dcao_lab.report.analysis.spread import spread_words
from dcao_lab.report.figures import comparisons, curves, solutions, traces
from dcao_lab.report.figures.drawings import BarChart, Panel, Sheet
from dcao_lab.report.figures.styles import MEANING
from dcao_lab.report.figures.sweeps import sweep
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.words import crowding

MOST_COLUMNS = 4  # so many panels of one workload stand beside each other
GAIN_NOTE = (
    "Bars: mean paired difference to the reference; lines: its 95 % bootstrap interval. Scales differ; what reaches "
    "far beyond the rest is cut off, a bar with its value at the cut."
)
OUT_OF_VIEW = (
    "A triangle at the edge: a network out of view, further from the middle half of all than three times its length "
    "(on a logarithmic axis at least a factor of 30)."
)

Draw = Callable[[Numbers, str], Sequence[Panel]]


def sheets(numbers: Numbers) -> Iterator[Sheet]:
    """The figures that the study has data for, each made only when it is drawn, so that one is in memory at a time."""
    return (sheet for sheet in _all(numbers) if sheet.drawings)


def _all(numbers: Numbers) -> Iterator[Sheet]:
    words = spread_words(len(runs) for runs in numbers.view.finals.values())
    note = f"Lines: medians; bands: {words}." if words else ""
    yield by_workload(numbers, "training_loss", curves.training_loss, note)
    yield by_workload(numbers, "validation_metric", curves.validation_metric, note)
    for axis in dict.fromkeys(one.axis for one in numbers.sweeps if one.source == "variations"):
        yield robustness(numbers, axis)
    yield by_workload(numbers, "stability", traces.stability)
    yield by_workload(numbers, "raw_stability", traces.raw_stability)
    yield by_workload(numbers, "preconditioned_stability", traces.preconditioned_stability)
    yield by_workload(numbers, "sharpness", traces.sharpness)
    profiles = comparisons.profiles(numbers)
    has_any = any(value > 0.0 for panel in profiles for series in panel.series for value in series.y)
    yield _sheet(numbers, "profiles", profiles if has_any else [])
    yield by_workload(numbers, "time_to_target", comparisons.target_times)
    yield by_workload(numbers, "spectral_densities", solutions.densities)
    yield from gain_sheets(numbers)
    yield Sheet(name="critical_difference", drawings=comparisons.mean_ranks(numbers))
    for measure in MEASURES:
        yield generalisation(numbers, measure)


def by_workload(numbers: Numbers, name: str, draw: Draw, note: str = "") -> Sheet:
    """The panels of every workload, a row each where a workload has several."""
    panels = [draw(numbers, task) for task in numbers.view.tasks]
    most = max(map(len, panels), default=0)
    columns = most if 1 < most <= MOST_COLUMNS else None
    return _sheet(numbers, name, [panel for own in panels for panel in own], note, columns)


def _sheet(numbers: Numbers, name: str, panels: Sequence[Panel], note: str = "", columns: int | None = None) -> Sheet:
    is_crowded = any(series.is_extra for panel in panels for series in panel.series)
    shown = [panel.without_extras() for panel in panels]
    return Sheet(
        name=name,
        drawings=[panel for panel in shown if not panel.is_empty],
        columns=columns,
        note=_noted(note, crowding.on_paper(numbers) if is_crowded else "", MEANING),
    )


def _noted(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def robustness(numbers: Numbers, axis: str) -> Sheet:
    """The final metric along an axis, of the leading arms."""
    panels = [panel for task in numbers.view.tasks for panel in sweep(numbers, task, axis, numbers.leading)]
    varied = {one.arm for one in numbers.sweeps if (one.axis, one.source) == (axis, "variations")}
    note = _noted(
        "Lines: medians over seeds; bars: the range of the runs that did not diverge.",
        "" if varied <= set(numbers.leading) else crowding.on_paper(numbers),
        MEANING,
    )
    return Sheet(name=f"robustness_{axis}", drawings=panels, note=note)


def generalisation(numbers: Numbers, measure: str) -> Sheet:
    """The generalisation gap of the trained networks against a measure of their curvature."""
    sheet = by_workload(
        numbers,
        f"generalisation_{measure}",
        lambda numbers, task: solutions.scatter(numbers, task, measure, "generalisation_gap"),
    )
    has_marks = any(series.marks for panel in sheet.drawings if isinstance(panel, Panel) for series in panel.series)
    return replace(sheet, note=_noted(OUT_OF_VIEW if has_marks else "", MEANING))


def gain_sheets(numbers: Numbers) -> Iterator[Sheet]:
    """All workloads under their own conditions in one figure; each workload in its own where the conditions vary."""
    own = [chart for task in numbers.view.tasks for chart in _own_conditions(numbers, task)]
    yield Sheet(name="gains", drawings=own, note=GAIN_NOTE)
    for task, info in numbers.view.infos.items():
        found = gains([c for c in numbers.comparisons if c.variation is not None], task)
        compared = [c for own in found.values() for c in own]
        others = list(dict.fromkeys(c.other for c in compared))
        charts = [
            chart
            for other in others
            for chart in _row(numbers, task, [c for c in compared if c.other == other], is_first=other == others[0])
        ]
        yield Sheet(name=f"gains_{task}", drawings=charts, columns=len(found), note=f"{info.title}. {GAIN_NOTE}")


def _own_conditions(numbers: Numbers, task: str) -> list[BarChart]:
    found = gains([c for c in numbers.comparisons if c.variation is None], task).get(None, [])
    is_one = len({c.other for c in found}) == 1
    labels = {c.arm: numbers.title(c.arm) if is_one else _over(numbers, c) for c in found}
    title = numbers.view.infos[task].title
    return [comparisons.gains(numbers, task, found, labels, title=title)] if found else []


def _over(numbers: Numbers, found: ArmComparison) -> str:
    """An arm and its reference, whose settings the arm has too and need not repeat; a line may break between them."""
    name, *settings = numbers.title(found.arm).split(", ")
    other = numbers.title(found.other)
    own = ", ".join([name, *(setting for setting in settings if setting not in other.split(", "))])
    return " ".join([own, f"over {other}".replace(" ", "\N{NO-BREAK SPACE}")])


def _row(numbers: Numbers, task: str, found: Sequence[ArmComparison], *, is_first: bool) -> list[BarChart]:
    """A chart for each of the conditions, the arms of one reference in all of them, whether or not they have a bar."""
    labels = comparisons.short_titles(numbers, {c.arm for c in found})
    charts = []
    for variation in dict.fromkeys(c.variation for c in found):
        own = [c for c in found if c.variation == variation]
        title = formats.variation(variation) if is_first else ""
        charts.append(comparisons.gains(numbers, task, own, labels, title=title))
    return charts
