"""The numbers that the report is about, computed from the runs; the words and figures only repeat them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from dcao_lab.baselines import BASELINES, Baseline, get_baseline
from dcao_lab.runner import Outcome, StoredRun
from dcao_lab.workloads import WORKLOADS, WorkloadInfo, get_workload


@dataclass(frozen=True, kw_only=True)
class Arm:
    """All seeds of one optimizer from one initial learning rate on one workload.

    Attributes:
        runs: The runs, by seed.
        values: Final metric of those that did not diverge.
        median: Median of the final metric, a diverged run counted as worse than every other; None when that
            makes the median run a diverged one.
        num_diverged: Runs that diverged.
    """

    runs: tuple[StoredRun, ...]
    values: tuple[float, ...]
    median: float | None
    num_diverged: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a training step costs, medians over the runs that do not measure the spectrum.

    Attributes:
        evaluations_per_step: Gradient evaluations, probes included.
        milliseconds: Time.
        time_ratio: Time over that of the bare optimizer, median over pairs of runs; None without a pair.
    """

    evaluations_per_step: float
    milliseconds: float
    time_ratio: float | None


@dataclass(frozen=True, kw_only=True)
class WorkloadSummary:
    """What the runs of one workload came to.

    Attributes:
        info: The workload's facts.
        num_steps: Training steps a run.
        learning_rates: Initial learning rates, ascending.
        baselines: Optimizers, in the registry's order.
        arms: The seeds of each optimizer (by name) from each initial learning rate.
        costs: Cost of each optimizer, by name.
    """

    info: WorkloadInfo
    num_steps: int
    learning_rates: tuple[float, ...]
    baselines: tuple[Baseline, ...]
    arms: dict[tuple[str, float], Arm]
    costs: dict[str, Cost]

    def range(self, optimizer: str) -> "Range":
        """The medians of ``optimizer`` from its worst to its best initial learning rate."""
        medians = [arm.median for (name, _), arm in self.arms.items() if name == optimizer]
        rank = ranking(self.info)
        return Range(worst=min(medians, key=rank), best=max(medians, key=rank))


@dataclass(frozen=True, kw_only=True)
class Range:
    """Final metric from the worst and from the best initial learning rate; None stands for divergence."""

    worst: float | None
    best: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An optimizer with DCAO and without it, on one workload.

    Attributes:
        info: The workload's facts.
        bare: The bare optimizer.
        wrapped: The same one inside DCAO.
        bare_range: Where the bare one ended.
        wrapped_range: Where DCAO ended.
        worst_is_better: From its worst initial learning rate DCAO ended better than the bare one from its worst.
        best_is_as_good: From its best DCAO ended at least as well as the bare one from its best.
        worst_beats_best: From its worst DCAO ended at least as well as the bare one from its best.
    """

    info: WorkloadInfo
    bare: Baseline
    wrapped: Baseline
    bare_range: Range
    wrapped_range: Range
    worst_is_better: bool
    best_is_as_good: bool
    worst_beats_best: bool


def ranking(info: WorkloadInfo) -> Callable[[float | None], float]:
    """A key that grows with how good a value of the metric is; None (divergence) is worst."""
    sign = 1.0 if info.higher_is_better else -1.0
    return lambda value: float("-inf") if value is None else sign * value


def summarise(runs: Iterable[StoredRun]) -> list[WorkloadSummary]:
    """One summary a workload, in the registry's order."""
    runs = list(runs)
    present = [name for name in WORKLOADS if any(run.config.workload == name for run in runs)]
    return [_summarise_workload([run for run in runs if run.config.workload == name]) for name in present]


def compare(summary: WorkloadSummary) -> list[Comparison]:
    """Each optimizer with DCAO beside the same one without, where both were run."""
    pairs = [
        (bare, wrapped)
        for bare in summary.baselines
        for wrapped in summary.baselines
        if not bare.is_wrapped and wrapped.name == f"dcao:{bare.name}"
    ]
    return [_compare_pair(summary, bare, wrapped) for bare, wrapped in pairs]


def best_gap(comparison: Comparison) -> float:
    """How far DCAO from its best ends behind the bare optimizer from its best; infinite if only DCAO diverged."""
    rank = ranking(comparison.info)
    gap = rank(comparison.bare_range.best) - rank(comparison.wrapped_range.best)
    return 0.0 if math.isnan(gap) else gap


def _compare_pair(summary: WorkloadSummary, bare: Baseline, wrapped: Baseline) -> Comparison:
    rank = ranking(summary.info)
    without, with_dcao = summary.range(bare.name), summary.range(wrapped.name)
    return Comparison(
        info=summary.info,
        bare=bare,
        wrapped=wrapped,
        bare_range=without,
        wrapped_range=with_dcao,
        worst_is_better=rank(with_dcao.worst) > rank(without.worst),
        best_is_as_good=rank(with_dcao.best) >= rank(without.best),
        worst_beats_best=rank(with_dcao.worst) >= rank(without.best),
    )


def _summarise_workload(runs: list[StoredRun]) -> WorkloadSummary:
    info = get_workload(runs[0].config.workload).info
    used = {run.config.optimizer for run in runs}
    baselines = tuple(get_baseline(name) for name in BASELINES if name in used)
    learning_rates = tuple(sorted({run.config.lr for run in runs}))
    return WorkloadSummary(
        info=info,
        num_steps=max(run.config.num_steps for run in runs),
        learning_rates=learning_rates,
        baselines=baselines,
        arms=_arms(runs, info),
        costs=_costs(runs, baselines),
    )


def _arms(runs: list[StoredRun], info: WorkloadInfo) -> dict[tuple[str, float], Arm]:
    grouped: dict[tuple[str, float], list[StoredRun]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        grouped.setdefault((run.config.optimizer, run.config.lr), []).append(run)
    return {key: _arm(group, info) for key, group in grouped.items()}


def _arm(runs: list[StoredRun], info: WorkloadInfo) -> Arm:
    finals = [final_metric(run, info) for run in runs]
    values = [value for value in finals if value is not None]
    return Arm(
        runs=tuple(runs),
        values=tuple(values),
        median=_median_with_losses(finals, info),
        num_diverged=len(finals) - len(values),
    )


def final_metric(run: StoredRun, info: WorkloadInfo) -> float | None:
    """The workload's metric at the end of a run; None when it diverged."""
    return None if run.result.outcome is Outcome.DIVERGED else run.result.final[f"test_{info.metric}"]


def _median_with_losses(finals: list[float | None], info: WorkloadInfo) -> float | None:
    """The median; of an even number, halfway between the middle two, or None if one of those diverged."""
    ordered = sorted(finals, key=ranking(info))
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return None if any(value is None for value in middle) else median(middle)


def _costs(runs: list[StoredRun], baselines: tuple[Baseline, ...]) -> dict[str, Cost]:
    return {
        baseline.name: Cost(
            evaluations_per_step=median(map(_evaluations_per_step, _everyday(runs, baseline.name))),
            milliseconds=median(map(_milliseconds, _everyday(runs, baseline.name))),
            time_ratio=_time_ratio(runs, baseline),
        )
        for baseline in baselines
    }


def _everyday(runs: list[StoredRun], optimizer: str) -> list[StoredRun]:
    """The runs that are not watched and measure no spectrum; all of them where there are no such runs."""
    own = [run for run in runs if run.config.optimizer == optimizer]
    return [run for run in own if run.config.spectrum_every is None and not run.config.watch] or own


def _time_ratio(runs: list[StoredRun], baseline: Baseline) -> float | None:
    """The median ratio over pairs of runs that differ in nothing but the optimizer; None without a pair."""
    bare = {(run.config.lr, run.config.seed): _milliseconds(run) for run in _everyday(runs, baseline.family)}
    ratios = [
        _milliseconds(run) / bare[run.config.lr, run.config.seed]
        for run in _everyday(runs, baseline.name)
        if (run.config.lr, run.config.seed) in bare
    ]
    return median(ratios) if ratios else None


def _milliseconds(run: StoredRun) -> float:
    return 1e3 * run.points[-1].seconds / max(1, run.result.num_steps)


def _evaluations_per_step(run: StoredRun) -> float:
    return run.result.gradient_evaluations / max(1, run.result.num_steps)
