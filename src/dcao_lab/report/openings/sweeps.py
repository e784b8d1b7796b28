"""The opening of a study of robustness: where each initial learning rate ends, with DCAO and without."""

from dcao_lab.report import formats
from dcao_lab.report.analysis.promise import promise as promise_of
from dcao_lab.report.analysis.view import is_literal
from dcao_lab.report.figures.sweeps import sweep
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening
from dcao_lab.report.sections.base import Section, filled, numbered
from dcao_lab.report.words import measured
from dcao_lab.report.words import promise as words
from dcao_lab.study.result import StudyResult

CAPTION = (
    "Lines are medians over seeds, small points the runs; a run that diverged has no point. A flat line is robust: "
    "where it starts from does not matter. A higher accuracy is better, and a lower perplexity."
)


def sweeps(result: StudyResult, numbers: Numbers) -> Opening:
    """A row for each optimizer, a column for each workload."""
    counted = tuple(one for one in numbers.cells if not is_literal(numbers.view.study.arm(one.arm)))
    found = promise_of(numbers.view, counted, numbers.untuned, numbers.costs)
    groups = {pair.arm: {pair.arm} for pair in found.pairs}
    for pair in found.pairs:
        groups[pair.arm].add(pair.other)
    panels = [
        panel
        for own, arms in groups.items()
        for task in numbers.view.tasks
        for panel in sweep(numbers, task, "lr", arms, title=_title(numbers, task, own))
    ]
    section = Section(
        key="everywhere",
        heading="Where each initial learning rate ends",
        caption=CAPTION,
        figures=numbered("lr", panels),
        columns=max(1, len(numbers.view.tasks)),
    )
    return Opening(
        verdict=words.verdict(numbers, found, len(result.missing)),
        sections=filled([section]),
        note=" ".join(filter(None, [measured.fragility(numbers), *measured.robustness(numbers)[:1]])),
        numbers=found,
    )


def _title(numbers: Numbers, task: str, arm: str) -> str:
    reference = numbers.view.study.arm(arm).reference
    return formats.joined(numbers.view.infos[task].title, numbers.title(reference) if reference else "")
