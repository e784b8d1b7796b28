"""Arms over all workloads: interquartile mean, performance profiles and ranking."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from dcao_lab.report.analysis.results import Results, scores, worst_score
from dcao_lab.report.analysis.targets import Reaching
from dcao_lab.report.analysis.view import Place, StudyView, ranking
from dcao_lab.statistics import (
    InterquartileMean,
    PerformanceProfile,
    Ranking,
    interquartile_mean,
    performance_profiles,
    rank_arms,
)


@dataclass(frozen=True, kw_only=True)
class Overall:
    """Arms over all workloads, under the workloads' own conditions.

    Attributes:
        arms: Those that have runs on every task.
        left_out: Those that have not.
        means: Interquartile mean of the normalised scores, by arm: 0 is the worst of the task, 1 its best run.
        profiles: Performance profile of the time to target in gradient evaluations, by arm.
        ranking: Critical-difference ranking by median; None for a single arm.
    """

    arms: tuple[str, ...]
    left_out: tuple[str, ...]
    means: dict[str, InterquartileMean]
    profiles: dict[str, PerformanceProfile]
    ranking: Ranking | None


def overall(view: StudyView, results: Results, reachings: dict[Place, Reaching]) -> Overall | None:
    """The arms over all tasks; None where no arm has runs on every task under its own conditions."""
    everywhere = tuple(
        arm.name for arm in view.study.arms if all(Place(task=task, arm=arm.name) in results for task in view.tasks)
    )
    if not everywhere:
        return None
    return Overall(
        arms=everywhere,
        left_out=tuple(arm.name for arm in view.study.arms if arm.name not in everywhere),
        means=_means(view, results, everywhere),
        profiles=performance_profiles(
            {arm: {task: reachings[Place(task=task, arm=arm)].typical for task in view.tasks} for arm in everywhere}
        ),
        ranking=_ranking(view, results, everywhere) if len(everywhere) > 1 else None,
    )


def _means(view: StudyView, results: Results, arms: tuple[str, ...]) -> dict[str, InterquartileMean]:
    by_task = {task: _normalised(view, results, task, arms) for task in view.tasks}
    table = {arm: {task: found[arm] for task, found in by_task.items()} for arm in arms}
    return {arm: interquartile_mean(rows) for arm, rows in table.items() if all(rows.values())}


def _normalised(view: StudyView, results: Results, task: str, arms: tuple[str, ...]) -> dict[str, list[float]]:
    """Each arm's scores on a task, whose worst is 0 and whose best run is 1; a perplexity by its logarithm."""
    info, worst = view.infos[task], worst_score(view, task)
    if worst is None:
        return {arm: [] for arm in arms}
    values = [v for p, r in results.items() if p.task == task for v in r.values.values() if v is not None]
    scale: Callable[[float], float] = math.log if info.metric == "perplexity" else float
    zero, one = scale(worst), scale(max(values, key=ranking(info), default=worst))
    length = one - zero or 1.0  # where all scores are alike, each is 0
    found = {arm: scores(results[Place(task=task, arm=arm)], worst).values() for arm in arms}
    return {arm: [(scale(value) - zero) / length for value in own] for arm, own in found.items()}


def _ranking(view: StudyView, results: Results, arms: tuple[str, ...]) -> Ranking:
    goodness = {task: ranking(info) for task, info in view.infos.items()}
    table = {
        arm: {task: goodness[task](results[Place(task=task, arm=arm)].median) for task in view.tasks} for arm in arms
    }
    return rank_arms(table, higher_is_better=True)
