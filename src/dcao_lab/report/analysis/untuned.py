"""A run that nobody tuned, from wherever it starts, against the best of a sweep of the learning rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

from dcao_lab.report.analysis.results import Result, Results, along, scores, worst_score
from dcao_lab.report.analysis.view import ArmOnTask, Place, Runs, StudyView, ranking
from dcao_lab.statistics import Comparison, compare
from dcao_lab.study.config import Arm
from dcao_lab.workloads import WorkloadInfo

POINTS, SHARE = 0.01, 0.02  # of accuracy; of any other best value: against constant learning rates
SCHEDULED = 2  # times as much against a schedule, whose warmup and decay were both chosen by hand
LIMITS = "1 point of accuracy or 2 % of another metric against constant learning rates, twice that against a schedule"
ROUNDING = 1e-9  # of the best value: 0.85 - 0.84 is more than 0.01 in floating point
LEAST_SWEEP = 7  # learning rates of a fixed grid, as the demo has; fewer are no search that anybody would call one


@dataclass(frozen=True, kw_only=True)
class Untuned(ArmOnTask):
    """An arm as it comes, at every initial learning rate, against the best one of an arm without DCAO.

    Attributes:
        other: Name of the arm that was swept: the same optimizer with a constant or a scheduled learning rate.
        starts: Initial learning rates of ``arm``, with the median of its runs (None: the median run diverged).
        num_swept: Learning rates of the sweep: of a fixed grid those that were run with all seeds.
        best_lr: The one with the best median; of a sweep that grows, by validation data.
        best: That median; None where every median run diverged.
        worst: The worst median of ``starts``.
        best_start: The best of them; None where all diverged.
        short: How much ``worst`` is worse than ``best``, in the metric's unit; negative where it is better.
        allowed: How much it may be: a point of accuracy or 2 % of the best of another metric against constant learning
            rates, twice that against a schedule.
        is_within: Whether it is no more than that.
        num_seeds: Seeds that every start and the sweep's best were run with.
        found: The statistics over the seeds that every start has: mean over the starts minus the sweep's best.
        sweep_evaluations: Gradient evaluations of one seed of the whole sweep.
        own_evaluations: Of one run of ``arm``, probes included.
        cost_ratio: The one over the other.
    """

    other: str
    starts: tuple[tuple[float, float | None], ...]
    num_swept: int
    best_lr: float
    best: float | None
    worst: float | None
    best_start: float | None
    short: float | None
    allowed: float | None
    is_within: bool
    num_seeds: int
    found: Comparison
    sweep_evaluations: float
    own_evaluations: float
    cost_ratio: float


@dataclass(frozen=True, kw_only=True)
class Search:
    """A sweep of an arm without DCAO.

    Attributes:
        num_lrs: Learning rates that were run.
        best: The result of the best.
        best_lr: Its learning rate.
        evaluations: Gradient evaluations of one seed of it all.
    """

    num_lrs: int
    best: Result
    best_lr: float
    evaluations: float


def untuned(view: StudyView, results: Results) -> tuple[Untuned, ...]:
    """Every arm that nobody tuned against every sweep of its reference's optimizer, in the study's order.

    One start is enough where the other arm has a sweep of its own. Against a fixed grid an arm has to go through
    several starts too.
    """
    return tuple(
        _against(view, results, task, arm.name, other.name, starts, search)
        for task in view.tasks
        for arm in view.arms(task)
        for other in rivals(view, arm)
        if (search := search_of(view, results, task, other))
        if len(starts := starts_of(view, results, task, arm.name)) >= (1 if other.sweep else 2)
    )


def rivals(view: StudyView, arm: Arm) -> list[Arm]:
    """The arms of the study without DCAO that have the optimizer of the arm's reference.

    None for an arm that is swept itself. An arm with settings of its own is held against sweeps that grow, not against
    fixed grids, of which a study of settings has its own.
    """
    if arm.sweep is not None or arm.reference is None:
        return []
    base = view.study.arm(arm.reference).optimizer
    others = [other for other in view.study.arms if other.optimizer == base and not view.is_wrapped(other.name)]
    return [other for other in others if other.sweep or not arm.settings]


def is_within(info: WorkloadInfo, best: float | None, value: float | None, factor: float = 1) -> bool:
    """Whether a value of the metric is worse than ``best`` by at most so many times what counts as level.

    None is a run that diverged, worse than every value.
    """
    if best is None or value is None:
        return value is not None
    rank = ranking(info)
    return rank(best) - rank(value) <= factor * _level(info, best) + ROUNDING * abs(best)


def _level(info: WorkloadInfo, best: float) -> float:
    return POINTS if info.metric == "accuracy" else SHARE * abs(best)


def starts_of(view: StudyView, results: Results, task: str, arm: str) -> dict[float, Result]:
    """An arm's results by its initial lr: where that was varied, else from the one that it has."""
    varied, own = along(results, task, arm, "lr"), Place(task=task, arm=arm)
    return varied or ({view.finals[own][0].config.lr: results[own]} if own in results else {})


def search_of(view: StudyView, results: Results, task: str, arm: Arm) -> Search | None:
    """The sweep of an arm without DCAO; None where it has none that is over."""
    return _grown(view, results, task, arm.name) if arm.sweep else _fixed(view, results, task, arm.name)


def _grown(view: StudyView, results: Results, task: str, arm: str) -> Search | None:
    """The sweep that an arm has of its own, once it has chosen."""
    place = Place(task=task, arm=arm)
    trials = [run for run in view.trials.get(place, ()) if run.config.seed == view.study.seeds[0]]
    if place not in results or not trials:
        return None
    return Search(
        num_lrs=len(trials),
        best=results[place],
        best_lr=view.finals[place][0].config.lr,
        evaluations=sum(run.result.gradient_evaluations for run in trials),
    )


def _fixed(view: StudyView, results: Results, task: str, arm: str) -> Search | None:
    """The learning rates with all seeds, if they are enough; a study may try others, far out, with fewer."""
    starts = along(results, task, arm, "lr")
    most = max((len(result.values) for result in starts.values()), default=0)
    swept = {lr: result for lr, result in starts.items() if len(result.values) == most}
    if len(swept) < LEAST_SWEEP:
        return None
    rank = ranking(view.infos[task])
    best_lr = max(swept, key=lambda lr: rank(swept[lr].median))
    return Search(
        num_lrs=len(swept),
        best=swept[best_lr],
        best_lr=best_lr,
        evaluations=sum(_evaluations(view.finals, result) for result in swept.values()),
    )


def _against(
    view: StudyView, results: Results, task: str, arm: str, other: str, starts: Mapping[float, Result], search: Search
) -> Untuned:
    info, lost = view.infos[task], worst_score(view, task)
    rank = ranking(info)
    best, medians = search.best.median, sorted((result.median for result in starts.values()), key=rank)
    worst, best_start = medians[0], medians[-1]
    factor = 1 if view.study.arm(other).schedule == "constant" else SCHEDULED
    short = None if best is None or worst is None else rank(best) - rank(worst)
    limit = None if best is None else factor * _level(info, best)
    own_evaluations = mean(_evaluations(view.finals, result) for result in starts.values())
    return Untuned(
        task=task,
        arm=arm,
        other=other,
        starts=tuple((lr, result.median) for lr, result in starts.items()),
        num_swept=search.num_lrs,
        best_lr=search.best_lr,
        best=best,
        worst=worst,
        best_start=best_start,
        short=short,
        allowed=limit,
        is_within=is_within(info, best, worst, factor),
        num_seeds=len(set.intersection(*(set(result.values) for result in (*starts.values(), search.best)))),
        found=compare(_by_seed(starts, lost), scores(search.best, lost), names=(arm, other)),
        sweep_evaluations=search.evaluations,
        own_evaluations=own_evaluations,
        cost_ratio=search.evaluations / own_evaluations,
    )


def _by_seed(starts: Mapping[float, Result], lost: float | None) -> dict[int, float]:
    """The mean over all starts, of the seeds that were run from each: pairs are alike then."""
    by_start = [scores(result, lost) for result in starts.values()]
    seeds = set.intersection(*map(set, by_start))
    return {seed: mean(values[seed] for values in by_start) for seed in sorted(seeds)}


def _evaluations(finals: Runs, result: Result) -> float:
    return mean(run.result.gradient_evaluations for run in finals[result.place])
