"""A run that nobody tuned, from wherever it starts, against the best of a sweep of the learning rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

from dcao_lab.report.analysis.results import Result, Results, scores, worst_score
from dcao_lab.report.analysis.view import Runs, StudyView, ranking
from dcao_lab.statistics import Comparison, compare
from dcao_lab.study.config import Arm
from dcao_lab.workloads import WorkloadInfo

POINTS = 0.01  # of accuracy, against constant learning rates
SHARE = 0.02  # of any other best value

Starts = Mapping[float, Result]
"""Where the runs of an arm ended, by initial learning rate."""


@dataclass(frozen=True, kw_only=True)
class Untuned:
    """A wrapped arm at every initial learning rate against the best one of an arm without DCAO.

    Attributes:
        task: Name of the workload.
        arm: Name of the wrapped arm.
        other: Name of the arm that was swept: the same optimizer with a constant or a scheduled learning rate.
        starts: Initial learning rates of ``arm``, with the median of its runs (None: the median run diverged).
        num_swept: Learning rates of the sweep.
        best_lr: The one with the best median.
        best: That median; None where every median run diverged.
        worst: The worst median of ``starts``.
        short: How much ``worst`` is worse than ``best``, in the metric's unit; negative where it is better.
        allowed: How much it may be: a point of accuracy against constant learning rates, 2 % of the best otherwise.
        is_within: Whether it is no more than that.
        found: The statistics over seeds: mean over all starts minus the sweep's best.
        sweep_evaluations: Gradient evaluations of one seed of the whole sweep.
        own_evaluations: Of one run of ``arm``, probes included.
    """

    task: str
    arm: str
    other: str
    starts: tuple[tuple[float, float | None], ...]
    num_swept: int
    best_lr: float
    best: float | None
    worst: float | None
    short: float | None
    allowed: float | None
    is_within: bool
    found: Comparison
    sweep_evaluations: float
    own_evaluations: float


def untuned(view: StudyView, results: Results) -> tuple[Untuned, ...]:
    """Every wrapped arm against every sweep of its optimizer, in the study's order; none where lr was not varied."""
    return tuple(
        _against(view, results, task, arm.name, other.name)
        for task in view.tasks
        for arm in view.arms(task)
        for other in _swept(view, task, arm)
        if _starts(results, task, arm.name) and len(_starts(results, task, other.name)) > 1
    )


def _swept(view: StudyView, task: str, arm: Arm) -> list[Arm]:
    """The arms without DCAO that have the optimizer of the arm's reference."""
    if not view.is_wrapped(arm.name) or arm.reference is None:
        return []
    base = view.study.arm(arm.reference).optimizer
    return [other for other in view.arms(task) if other.optimizer == base and not view.is_wrapped(other.name)]


def _starts(results: Results, task: str, arm: str) -> dict[float, Result]:
    found = [
        (place.variation.value, result)
        for place, result in results.items()
        if (place.task, place.arm) == (task, arm) and place.variation is not None and place.variation.axis == "lr"
    ]
    return dict(sorted(found))


def _against(view: StudyView, results: Results, task: str, arm: str, other: str) -> Untuned:
    info, lost = view.infos[task], worst_score(view, task)
    rank = ranking(info)
    own, swept = (_starts(results, task, name) for name in (arm, other))
    best_lr = max(swept, key=lambda lr: rank(swept[lr].median))
    best, worst = swept[best_lr].median, min((result.median for result in own.values()), key=rank)
    short = None if best is None or worst is None else rank(best) - rank(worst)
    allowed = None if best is None else _allowed(info, view.study.arm(other), best)
    return Untuned(
        task=task,
        arm=arm,
        other=other,
        starts=tuple((lr, result.median) for lr, result in own.items()),
        num_swept=len(swept),
        best_lr=best_lr,
        best=best,
        worst=worst,
        short=short,
        allowed=allowed,
        is_within=worst is not None and (short is None or allowed is None or short <= allowed),
        found=compare(_by_seed(own, lost), scores(swept[best_lr], lost), names=(arm, other)),
        sweep_evaluations=sum(_evaluations(view.finals, result) for result in swept.values()),
        own_evaluations=mean(_evaluations(view.finals, result) for result in own.values()),
    )


def _allowed(info: WorkloadInfo, other: Arm, best: float) -> float:
    return POINTS if info.metric == "accuracy" and other.schedule == "constant" else SHARE * abs(best)


def _by_seed(starts: Starts, lost: float | None) -> dict[int, float]:
    """The mean over all starts that a seed was run from."""
    values: dict[int, list[float]] = {}
    for result in starts.values():
        for seed, value in scores(result, lost).items():
            values.setdefault(seed, []).append(value)
    return {seed: mean(own) for seed, own in values.items()}


def _evaluations(finals: Runs, result: Result) -> float:
    return mean(run.result.gradient_evaluations for run in finals[result.place])
