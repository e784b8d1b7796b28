"""The opening of the demo: whether one run from any learning rate is as good as a sweep."""

from dcao_lab.report import formats
from dcao_lab.report.analysis.promise import Pair, Promise
from dcao_lab.report.analysis.promise import promise as promise_of
from dcao_lab.report.analysis.view import StudyView
from dcao_lab.report.figures.course import course
from dcao_lab.report.figures.promise import final_metrics
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening, Tile
from dcao_lab.report.sections.base import Section, filled, numbered
from dcao_lab.report.words import promise as words
from dcao_lab.runs.runner import StoredRun
from dcao_lab.study.result import StudyResult


def promise(result: StudyResult, numbers: Numbers) -> Opening:
    """The promise, kept or not, and how one run went about it."""
    found = promise_of(numbers.view, numbers.cells, numbers.untuned, numbers.costs)
    said = {
        "final metric against the best of the sweep": words.final_metric(numbers, found),
        "runs spent": words.runs_spent(found),
        "extra gradients": words.extra_gradients(found),
    }
    return Opening(
        verdict=words.verdict(numbers, found, len(result.missing)),
        tiles=[Tile(label=label, value=value, detail=detail) for label, (value, detail) in said.items()],
        sections=filled([_everywhere(numbers, found), _one_run(numbers, found)]),
        note=words.times(numbers, found),
        numbers=found,
    )


def _everywhere(numbers: Numbers, found: Promise) -> Section:
    """Where every start ends: a row for each optimizer, a column for each workload."""
    arms = dict.fromkeys(pair.arm for pair in found.pairs)
    ordered = [pair for arm in arms for pair in found.pairs if pair.arm == arm]
    panels = [panel for pair in ordered for panel in final_metrics(numbers, pair)]
    return Section(
        key="everywhere",
        heading="Where each initial learning rate ends",
        caption=_medians(numbers.view),
        figures=numbered("lr", panels),
        columns=max(1, len(numbers.view.tasks)),
    )


def _medians(view: StudyView) -> str:
    seeds = len(view.study.seeds)
    medians = f"Lines are medians of {seeds} seeds, small points the runs. " if seeds > 1 else "One seed. "
    return (
        f"{medians}Up is better; \N{BLACK DOWN-POINTING TRIANGLE} is a median that diverged or is out of view. "
        "The best of the sweep is chosen by these very runs, which favours it; more runs in between may find better."
    )


def _one_run(numbers: Numbers, found: Promise) -> Section:
    panels, caption = [], ""
    watched = _watched(numbers.view, found)
    if watched:
        pair, run = watched
        name = "" if pair.best_lr is None else f"best of the sweep at {formats.learning_rate(pair.best_lr)}"
        panels = course(run, numbers.styles[pair.arm], pair.best_lr, name)
        caption = (
            f"{numbers.title(pair.arm)} on {numbers.view.infos[pair.task].title}, which was given "
            f"{formats.learning_rate(run.config.lr)}. lr rises from a small first step until a probe (a dot) "
            "objects to the relative step or to s. Then it stays under a ceiling, which each probe above a limit "
            "lowers, and at the end it decays."
        )
    return Section(
        key="course", heading="How one run finds it", caption=caption, figures=numbered("course", panels), columns=3
    )


def _watched(view: StudyView, found: Promise) -> tuple[Pair, StoredRun] | None:
    """The run of DCAO to look at: on the last workload that has one, from the lowest lr."""
    for task in reversed(view.tasks):
        for pair in found.pairs:
            if pair.task == task and (runs := view.runs(task, pair.arm)):
                return pair, min(runs, key=lambda run: (run.config.lr, run.config.seed))
    return None
