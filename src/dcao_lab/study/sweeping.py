"""Sweeps of the learning rate: which runs the results so far ask for, and what they choose. Pure."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from dcao_lab.config import RunConfig
from dcao_lab.study.config import Arm, StudyConfig, Sweep, Task
from dcao_lab.study.design import MOST_WIDENINGS
from dcao_lab.study.plan import Choices, config_of, slow_first
from dcao_lab.study.result import PlannedRun
from dcao_lab.study.tuning import End, rank
from dcao_lab.workloads import get_workload

Look = Callable[[RunConfig], End | None]
"""How a run ended; None for one that is not done."""


def swept(study: StudyConfig, look: Look) -> list[PlannedRun]:
    """The runs of all sweeps that the results so far ask for, those that are done among them; slow workloads first.

    Where they are all done, the sweeps are over: the same results ask for the same runs.
    """
    return _runs(_sweeps(study, look))


def sweep_choices(study: StudyConfig, look: Look) -> Choices:
    """The learning rate of every sweep that is over, by workload and arm."""
    return _choices(_sweeps(study, look))


def expected(study: StudyConfig) -> tuple[list[PlannedRun], Choices]:
    """The runs and the choices of all sweeps if the middle of every grid is best: what one sees before starting."""
    sweeps = [replace(each, look=_nearness(each.sweep.middle)) for each in _sweeps(study, lambda config: None)]
    return _runs(sweeps), _choices(sweeps)


def grid(sweep: Sweep, end_at: Callable[[float], End | None], *, higher_is_better: bool) -> tuple[list[float], bool]:
    """The learning rates to run with the first seed, and whether they are all: the best is inside, as far as it can be.

    Where none trains, the grid grows downward.
    """
    low, high = 0, sweep.num_lrs - 1
    while True:
        lrs = [sweep.lr(index) for index in range(low, high + 1)]
        ends = [end for end in map(end_at, lrs) if end is not None]
        if len(ends) < len(lrs):
            return lrs, False
        best = min(range(len(lrs)), key=lambda place: rank(ends[place], higher_is_better))
        if best == 0 and low > -MOST_WIDENINGS:
            low -= 1
        elif best == len(lrs) - 1 and high < sweep.num_lrs - 1 + MOST_WIDENINGS:
            high += 1
        else:
            return lrs, True


@dataclass(frozen=True, kw_only=True)
class _ArmSweep:
    """The sweep of one arm on one task."""

    task: Task
    arm: Arm
    sweep: Sweep
    seeds: tuple[int, ...]
    look: Look

    def configs(self) -> list[RunConfig]:
        lrs, is_whole = self._grid()
        first = [self._config(lr, self.seeds[0]) for lr in lrs]
        more = [self._config(lr, seed) for seed in self.seeds[1:] for lr in self._best(lrs)] if is_whole else []
        return first + more

    def chosen_lr(self) -> float | None:
        """The best median of the best few; None while runs are missing."""
        if any(self.look(config) is None for config in self.configs()):
            return None
        return min(self._best(self._grid()[0]), key=lambda lr: self._key(self._median(lr)))

    def _best(self, lrs: list[float]) -> list[float]:
        return sorted(lrs, key=lambda lr: self._key(self._end(lr, self.seeds[0])))[: self.sweep.num_best]

    def _median(self, lr: float) -> End:
        """The middle one of the seeds' ends; of two in the middle the worse."""
        ends = sorted((self._end(lr, seed) for seed in self.seeds), key=self._key)
        return ends[len(ends) // 2]

    def _grid(self) -> tuple[list[float], bool]:
        return grid(
            self.sweep,
            lambda lr: self.look(self._config(lr, self.seeds[0])),
            higher_is_better=self._higher_is_better,
        )

    def _end(self, lr: float, seed: int) -> End:
        end = self.look(self._config(lr, seed))
        assert end is not None, "asked for only where all runs are done"
        return end

    def _config(self, lr: float, seed: int) -> RunConfig:
        return config_of(self.task, self.arm, {"lr": lr}, seed)

    def _key(self, end: End) -> tuple[bool, float, float]:
        return rank(end, self._higher_is_better)

    @property
    def _higher_is_better(self) -> bool:
        return get_workload(self.task.workload).info.higher_is_better


def _sweeps(study: StudyConfig, look: Look) -> list[_ArmSweep]:
    return [
        _ArmSweep(task=task, arm=arm, sweep=arm.sweep, seeds=study.seeds, look=look)
        for task in slow_first(study.tasks)
        for arm in study.arms
        if arm.sweep is not None
    ]


def _runs(sweeps: list[_ArmSweep]) -> list[PlannedRun]:
    return [
        PlannedRun(phase="trial", task=each.task, arm=each.arm, variation=None, config=config)
        for each in sweeps
        for config in each.configs()
    ]


def _choices(sweeps: list[_ArmSweep]) -> Choices:
    chosen = {(each.task.workload, each.arm.name): each.chosen_lr() for each in sweeps}
    return {pair: {"lr": lr} for pair, lr in chosen.items() if lr is not None}


def _nearness(lr: float) -> Look:
    return lambda config: (0.0, abs(math.log(config.lr / lr)))
