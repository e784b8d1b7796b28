"""The sections that are about all workloads together."""

from dcao_lab.report.figures import overall as figures
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.sections.base import Context, filled, panel, section
from dcao_lab.report.tables import costs, runs, statistics, untuned

MOST_PROFILE_WORKLOADS = 2  # a profile over fewer is no profile


def overview(numbers: Numbers) -> list[Context]:
    """What is shown before the workloads one by one."""
    return filled([_untuned(numbers), *_overall(numbers), _comparisons(numbers)])


def closing(numbers: Numbers) -> list[Context]:
    """What is shown after them."""
    return filled([_targets(numbers), _costs(numbers), _smoothness(numbers), _tuning(numbers)])


def _overall(numbers: Numbers) -> list[Context]:
    found = numbers.overall
    if found is None or len(numbers.view.tasks) < MOST_PROFILE_WORKLOADS or len(found.arms) < 2:
        return []
    assert found.ranking is not None  # there are two arms
    caption = (
        "Score: 0 is the worst of a workload (untrained networks included), 1 its best run, perplexities by their "
        "logarithm; shown is the mean of the middle half of all runs, with its 95 % interval. Profile: on which share "
        "of the workloads an arm reaches the target with at most so many times the gradient evaluations of the fastest "
        "arm (AlgoPerf's; its score is the area up to 4). Ranking: mean rank by median final metric. "
        f"{statistics.ranking_note(numbers, found)}"
    )
    panels = [
        panel("all-means", "Normalised score", figures.means(found, numbers.styles)),
        panel("all-profiles", "Performance profiles", figures.profiles(found, numbers.styles)),
        panel("all-ranking", "Critical-difference ranking", figures.critical_difference(found.ranking, numbers.styles)),
    ]
    tables = [statistics.overall(numbers, found)]
    return [section("overall", "Over all workloads", caption, figures=panels, tables=tables)]


def _untuned(numbers: Numbers) -> Context:
    caption = (
        "What it is worth not to have to look for a learning rate: each wrapped arm once, from wherever it starts, "
        "against the same optimizer at the best learning rate that a sweep finds."
    )
    return section("untuned", "One run that nobody tuned", caption, tables=[untuned.untuned(numbers)])


def _comparisons(numbers: Numbers) -> Context:
    caption = (
        "Each arm against its reference, and each DCAO arm against the best arm without DCAO and against AdamW, "
        "paired by seed. An interval that leaves out zero decides the verdict; significant is p after Holm's "
        "correction of at most 0.05."
    )
    return section("comparisons", "Who beats whom", caption, tables=[statistics.comparisons(numbers)])


def _targets(numbers: Numbers) -> Context:
    return section("targets", "Time to target", "", tables=[statistics.targets(numbers)])


def _costs(numbers: Numbers) -> Context:
    return section("cost", "What it costs", "", tables=[costs.costs(numbers)])


def _smoothness(numbers: Numbers) -> Context:
    return section("smoothness", "How smoothly it trains", "", tables=[costs.smoothness(numbers)])


def _tuning(numbers: Numbers) -> Context:
    return section("tuning", "What tuning chose", "", tables=[runs.tunings(numbers)])
