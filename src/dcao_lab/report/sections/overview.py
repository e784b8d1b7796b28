"""The sections that are about all workloads together."""

from dcao_lab.report.figures.comparisons import mean_ranks, normalised_scores, profiles
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.sections.base import Section, filled, numbered
from dcao_lab.report.tables import cells, comparisons, costs

FEW_WORKLOADS = 4  # of fewer, profiles and critical differences say nothing
CELLS = (
    "Each arm that nobody tuned has one run a seed. A cell holds their median against the best learning rate of a "
    "sweep of the bare optimizer: with a constant lr, or with warmup and cosine."
)
UNTUNED = (
    "What it is worth not to have to look for a learning rate: each arm that nobody tuned once, from wherever it "
    "starts, against the bare optimizer at the best learning rate that a sweep finds."
)
COMPARISONS = (
    "Each arm against its reference, and each DCAO arm against the best arm without DCAO and against AdamW, paired by "
    "seed. An interval that leaves out zero decides the verdict; significant is p after Holm's correction of at most "
    "0.05."
)
OVERALL = (
    "Score: 0 is the worst of a workload (untrained networks included), 1 its best run, perplexities by their "
    "logarithm; shown is the mean of the middle half of all runs, with its 95 % interval. Profile: on which share of "
    "the workloads an arm reaches the target with at most so many times the gradient evaluations of the fastest arm "
    "(AlgoPerf's; its score is the area up to 4). Ranking: mean rank by median final metric; grey bars join those that "
    "do not differ."
)


def certainty(numbers: Numbers) -> list[Section]:
    """What says how sure the rest is: every comparison, and all workloads together."""
    everything = comparisons.comparisons(numbers, numbers.comparisons)
    compared = Section(key="comparisons", heading="Who beats whom", caption=COMPARISONS, tables=[everything])
    return filled([*_overall(numbers), compared])


def overview(numbers: Numbers) -> list[Section]:
    """What is shown before the workloads one by one."""
    untuned = Section(
        key="untuned", heading="One run that nobody tuned", caption=UNTUNED, tables=[comparisons.untuned(numbers)]
    )
    within = Section(key="cells", heading="Within the goal of a sweep", caption=CELLS, tables=cells.tables(numbers))
    return filled([within, untuned])


def closing(numbers: Numbers) -> list[Section]:
    """What is shown after them."""
    tables = (comparisons.targets, costs.costs, costs.smoothness, costs.tunings)
    found = [build(numbers) for build in tables]
    return filled([Section(key=table.name, heading=table.label, tables=[table]) for table in found])


def _overall(numbers: Numbers) -> list[Section]:
    found = numbers.overall
    if found is None or len(numbers.view.tasks) < 2 or len(found.arms) < 2:
        return []
    figures = numbered("means", [normalised_scores(numbers, found)])
    if len(numbers.view.tasks) >= FEW_WORKLOADS:
        figures |= numbered("profiles", profiles(numbers))
        figures |= numbered("ranking", mean_ranks(numbers) if len(numbers.view.study.seeds) > 1 else [])
    table = comparisons.overall(numbers, found)
    return [Section(key="overall", heading="Over all workloads", caption=OVERALL, figures=figures, tables=[table])]
