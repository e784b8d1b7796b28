"""Which runs a study is made of. Pure: the same study, and the same choices, give the same runs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from dcao_lab.baselines import get_baseline
from dcao_lab.config import RunConfig, Setting, sorted_settings
from dcao_lab.study.config import Arm, StudyConfig, Task, Variation
from dcao_lab.study.design import SearchPoint, design, search_space
from dcao_lab.study.result import Phase, PlannedRun
from dcao_lab.workloads import get_workload

Pair = tuple[str, str]
"""Names of a task's workload and of an arm: what is tuned on its own."""
Choices = Mapping[Pair, SearchPoint]
"""The hyperparameters that tuning chose, by workload and arm."""


def trials(study: StudyConfig) -> list[PlannedRun]:
    """The runs that tune, slow workloads first; the arms of one trial are neighbours. None without tuning."""
    tuning = study.tuning
    if tuning is None:
        return []
    points = {arm.name: design(search_space(arm), tuning.num_trials, tuning.design_seed) for arm in study.arms}
    return [
        PlannedRun(
            phase="trial",
            task=task,
            arm=arm,
            variation=None,
            config=config_of(task, arm, points[arm.name][number], tuning.training_seed),
        )
        for task in slow_first(study.tasks)
        for number in range(tuning.num_trials)
        for arm in study.arms
    ]


def finals(study: StudyConfig, choices: Choices) -> list[PlannedRun]:
    """The runs that count, slow workloads first.

    Arms of one seed are neighbours: other work on the machine slows them alike.
    """
    return [
        replace(run, config=replace(run.config, measure_solution=study.measure_solution))
        for run in _runs(study, choices, "final", study.seeds)
    ]


def watched(study: StudyConfig, choices: Choices) -> list[PlannedRun]:
    """The extra runs that measure s and the spectrum, of the optimizers that have an s.

    Measuring is free for them, so they have no budget.
    """
    if study.watching is None:
        return []
    return [
        replace(run, config=_watching(run.config, study.watching.spectra))
        for run in _runs(study, choices, "watched", study.watching.seeds)
        if get_baseline(run.config.optimizer).can_be_watched
    ]


def slow_first(tasks: Iterable[Task]) -> list[Task]:
    """The tasks, those with the longest runs first, so that no process is left alone at the end."""
    return sorted(tasks, key=lambda task: task.num_steps * get_workload(task.workload).info.step_cost, reverse=True)


def _runs(study: StudyConfig, choices: Choices, phase: Phase, seeds: tuple[int, ...]) -> Iterator[PlannedRun]:
    for task in slow_first(study.tasks):
        for variation in (*study.variations, None):
            for seed in seeds if variation is None else seeds[: variation.num_seeds]:
                for arm in _under(study, variation):
                    config = config_of(task, arm, choices.get((task.workload, arm.name), {}), seed)
                    config = config if variation is None else _varied(config, variation)
                    yield PlannedRun(phase=phase, task=task, arm=arm, variation=variation, config=config)


def _under(study: StudyConfig, variation: Variation | None) -> list[Arm]:
    """The arms that go through a variation; for None, those that go through none."""
    if variation is not None:
        return list(filter(variation.has, study.arms))
    return [arm for arm in study.arms if not any(each.has(arm) for each in study.variations)]


def config_of(task: Task, arm: Arm, point: SearchPoint, seed: int) -> RunConfig:
    """The run of an arm on a task at a point, under the workload's own conditions."""
    settings = {name: value for name, value in point.items() if name != "lr"}
    return RunConfig(
        workload=task.workload,
        optimizer=arm.optimizer,
        lr=float(point["lr"] if "lr" in point else _initial_lr(arm)),
        seed=seed,
        num_steps=task.num_steps,
        eval_every=task.eval_every,
        settings=sorted_settings({**settings, **dict(arm.settings)}),
        schedule=arm.schedule,
        budget=task.budget,
    )


def _initial_lr(arm: Arm) -> Setting:
    return get_baseline(arm.optimizer).lr if arm.lr is None else arm.lr


def _varied(config: RunConfig, variation: Variation) -> RunConfig:
    value = variation.value
    match variation.axis:
        case "lr":
            return replace(config, lr=value)
        case "batch_size":
            return replace(config, batch_size=int(value))
        case "init_scale":
            return replace(config, init_scale=value)
        case "label_noise":
            return replace(config, label_noise=value)
        case "weight_decay" | "momentum":
            name = _setting_name(config.optimizer, variation.axis)
            return replace(config, settings=sorted_settings({**dict(config.settings), name: value}))


def _setting_name(optimizer: str, axis: str) -> str:
    """Adam's kin call their momentum beta1."""
    family = get_baseline(get_baseline(optimizer).family)
    return "beta1" if axis == "momentum" and "momentum" not in family.space else axis


def _watching(config: RunConfig, spectra: int) -> RunConfig:
    return replace(config, watch=True, spectrum_every=max(1, config.num_steps // spectra), budget=None)
