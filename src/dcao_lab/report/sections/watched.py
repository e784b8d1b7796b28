"""The sections on the watched runs: s and the sharpness against the edge, and what trained over time."""

from dcao_lab.report import formats
from dcao_lab.report.analysis.conditions import conditions
from dcao_lab.report.analysis.groups import families
from dcao_lab.report.figures import hyperparameters, stability
from dcao_lab.report.figures.base import Figure, with_extras
from dcao_lab.report.figures.styles import grey_first
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.sections.base import Context, panel, section
from dcao_lab.report.words import crowding
from dcao_lab.runs.runner import StoredRun

FEW_COLUMNS, MOST_COLUMNS = 3, 4
TRACES = {
    "s": ("Stability number s", stability.stability),
    "preconditioned": ("Preconditioned s", stability.preconditioned),
    "raw": ("lr times largest Ritz value", stability.raw_stability),
    "sharp": ("Largest Ritz value", stability.sharpness),
}


def traces(numbers: Numbers, task: str, key: str) -> Context:
    """What was measured, beside the edge."""
    runs = watched(numbers, task)
    panels = [
        panel(f"{key}-{name}-{i}", title + where, _shown(numbers, runs, draw(own, numbers.styles)))
        for name, (title, draw) in TRACES.items()
        for i, (where, own) in enumerate(runs.items())
    ]
    caption = (
        "Above 2 the steps are too long for the curvature that they meet. s counts in what the optimizer does to "
        "the step (preconditioner, momentum); the preconditioned s is by the largest eigenvalue of the "
        "preconditioned Hessian alone, what there is of it in full batch; lr times the largest Ritz value of the "
        "loss Hessian is the proposal's raw form, whose edge is at 2 for plain gradient descent alone. One watched"
        " run an arm; dots are probes, lines their running median; a value that is not above zero has no point. "
        "The largest Ritz value of SGD alone has an edge of its own, 2 (1 + momentum) / lr, dotted. A value a "
        "hundred times beyond 90 % of the others may be out of view; it is in the data."
    )
    caption += _left_out(numbers, runs)
    return section("stability", "Stability against the edge", caption, figures=panels, columns=_columns(runs))


def trained(numbers: Numbers, task: str, key: str) -> Context:
    """Learning rate, momentum and weight decay."""
    runs = watched(numbers, task)
    panels = [
        panel(
            f"{key}-{name}-{i}",
            title.capitalize() + where,
            _shown(numbers, runs, hyperparameters.hyperparameter(own, name, numbers.styles)),
        )
        for name, title in hyperparameters.TITLES.items()
        for i, (where, own) in enumerate(runs.items())
    ]
    caption = "What trained at each step of the watched run of each arm. A level line was left alone."
    caption += _left_out(numbers, runs)
    return section("hyper", "Learning rate, momentum and weight decay over time", caption, figures=panels,
                   columns=_columns(runs))  # fmt: skip


def watched(numbers: Numbers, task: str) -> dict[str, dict[str, StoredRun]]:
    """The first watched run of each arm, by what the title of their figure adds: the arms' family, the conditions."""
    found = {}
    for variation in conditions(numbers.view, task, numbers.view.watched):
        runs = numbers.view.first_watched(task, variation)
        for family, arms in families(numbers.view.study, runs, stability.FEW_ARMS).items():
            where = "".join(f", {words}" for words in (family, formats.variation(variation)) if words)
            found[where] = {arm: runs[arm] for arm in grey_first(arms, numbers.styles)}
    return found


def _shown(numbers: Numbers, runs: dict[str, dict[str, StoredRun]], figure: Figure) -> Figure:
    """The figure; of arms that are not in families, with the leading ones alone."""
    return figure if _in_families(runs) else with_extras(figure, numbers.leading)


def _left_out(numbers: Numbers, runs: dict[str, dict[str, StoredRun]]) -> str:
    return "" if _in_families(runs) else crowding.on_the_page(numbers)


def _in_families(runs: dict[str, dict[str, StoredRun]]) -> bool:
    return all(len(own) <= stability.FEW_ARMS for own in runs.values())


def _columns(runs: dict[str, dict[str, StoredRun]]) -> int:
    """A row a quantity; of a single family, as many as fit in a row."""
    return len(runs) if 1 < len(runs) <= MOST_COLUMNS else FEW_COLUMNS
