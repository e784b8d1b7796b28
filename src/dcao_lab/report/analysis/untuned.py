"""A run that nobody tuned, from wherever it starts, against the best of a sweep of the learning rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

from dcao_lab.report.analysis.results import Result, Results, along, scores, worst_score
from dcao_lab.report.analysis.view import ArmOnTask, Runs, StudyView, ranking
from dcao_lab.statistics import Comparison, compare
from dcao_lab.study.config import Arm
from dcao_lab.workloads import WorkloadInfo

POINTS = 0.01  # of accuracy, against constant learning rates
SHARE = 0.02  # of any other best value
LIMITS = "one point of accuracy against constant learning rates, 2 % of the best otherwise"
LEAST_SWEEP = 8  # learning rates; fewer are no search that anybody would call one


@dataclass(frozen=True, kw_only=True)
class Untuned(ArmOnTask):
    """A wrapped arm as it comes, at every initial learning rate, against the best one of an arm without DCAO.

    Attributes:
        other: Name of the arm that was swept: the same optimizer with a constant or a scheduled learning rate.
        starts: Initial learning rates of ``arm``, with the median of its runs (None: the median run diverged).
        num_swept: Learning rates of the sweep: those that were run with all seeds.
        best_lr: The one with the best median.
        best: That median; None where every median run diverged.
        worst: The worst median of ``starts``.
        best_start: The best of them; None where all diverged.
        short: How much ``worst`` is worse than ``best``, in the metric's unit; negative where it is better.
        allowed: How much it may be: a point of accuracy against constant learning rates, 2 % of the best otherwise.
        is_within: Whether it is no more than that.
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
    found: Comparison
    sweep_evaluations: float
    own_evaluations: float
    cost_ratio: float


def untuned(view: StudyView, results: Results) -> tuple[Untuned, ...]:
    """Every wrapped arm against every sweep of its optimizer, in the study's order; none where lr was not varied."""
    return tuple(
        _against(view, results, task, arm.name, other.name)
        for task in view.tasks
        for arm in view.arms(task)
        for other in _swept(view, task, arm)
        if len(along(results, task, arm.name, "lr")) > 1 and len(_sweep(results, task, other.name)) >= LEAST_SWEEP
    )


def _swept(view: StudyView, task: str, arm: Arm) -> list[Arm]:
    """The arms without DCAO that have the optimizer of the arm's reference; of an arm with settings of its own none."""
    if not view.is_wrapped(arm.name) or arm.reference is None or arm.settings:
        return []
    base = view.study.arm(arm.reference).optimizer
    return [other for other in view.arms(task) if other.optimizer == base and not view.is_wrapped(other.name)]


def _sweep(results: Results, task: str, arm: str) -> dict[float, Result]:
    """The starts with all seeds; a study may try others, far out, with fewer."""
    starts = along(results, task, arm, "lr")
    most = max((len(result.values) for result in starts.values()), default=0)
    return {lr: result for lr, result in starts.items() if len(result.values) == most}


def _against(view: StudyView, results: Results, task: str, arm: str, other: str) -> Untuned:
    info, lost = view.infos[task], worst_score(view, task)
    rank = ranking(info)
    own, swept = along(results, task, arm, "lr"), _sweep(results, task, other)
    best_lr = max(swept, key=lambda lr: rank(swept[lr].median))
    best, medians = swept[best_lr].median, sorted((result.median for result in own.values()), key=rank)
    worst, best_start = medians[0], medians[-1]
    short = None if best is None or worst is None else rank(best) - rank(worst)
    allowed = None if best is None else _allowed(info, view.study.arm(other), best)
    sweep_evaluations = sum(_evaluations(view.finals, result) for result in swept.values())
    own_evaluations = mean(_evaluations(view.finals, result) for result in own.values())
    return Untuned(
        task=task,
        arm=arm,
        other=other,
        starts=tuple((lr, result.median) for lr, result in own.items()),
        num_swept=len(swept),
        best_lr=best_lr,
        best=best,
        worst=worst,
        best_start=best_start,
        short=short,
        allowed=allowed,
        is_within=worst is not None and (short is None or allowed is None or short <= allowed),
        found=compare(_by_seed(own, lost), scores(swept[best_lr], lost), names=(arm, other)),
        sweep_evaluations=sweep_evaluations,
        own_evaluations=own_evaluations,
        cost_ratio=sweep_evaluations / own_evaluations,
    )


def _allowed(info: WorkloadInfo, other: Arm, best: float) -> float:
    return POINTS if info.metric == "accuracy" and other.schedule == "constant" else SHARE * abs(best)


def _by_seed(starts: Mapping[float, Result], lost: float | None) -> dict[int, float]:
    """The mean over all starts, of the seeds that were run from each: pairs are alike then."""
    by_start = [scores(result, lost) for result in starts.values()]
    seeds = set.intersection(*map(set, by_start))
    return {seed: mean(values[seed] for values in by_start) for seed in sorted(seeds)}


def _evaluations(finals: Runs, result: Result) -> float:
    return mean(run.result.gradient_evaluations for run in finals[result.place])
