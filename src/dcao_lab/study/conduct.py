"""Do a study: tune, train what counts, say what is missing. Kill it anywhere and start it again."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

from rich.console import Console

from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError, LostWorkerError
from dcao_lab.execution.executors import Executor
from dcao_lab.execution.outcomes import describe
from dcao_lab.execution.progress import show_progress
from dcao_lab.runs.result import RunResult
from dcao_lab.runs.runner import load, stored_result
from dcao_lab.runs.store import RunState, RunStore
from dcao_lab.study.config import StudyConfig
from dcao_lab.study.folders import StudyFolder
from dcao_lab.study.plan import Choices, finals, trials, watched
from dcao_lab.study.result import Absence, PlannedRun, StudyResult
from dcao_lab.study.sweeping import Look, sweep_choices, swept
from dcao_lab.study.tuning import End, choices, end_of
from dcao_lab.workloads import get_workload


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The part of a study to do now.

    Attributes:
        workloads: Names of workloads; empty takes all.
        arms: Names of arms; empty takes all.
    """

    workloads: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()

    def of(self, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
        """Those of ``runs`` that are in it."""
        return [
            run
            for run in runs
            if (not self.workloads or run.task.workload in self.workloads)
            and (not self.arms or run.arm.name in self.arms)
        ]


EVERYTHING = Selection()


@dataclass(frozen=True, kw_only=True)
class _Site:
    """What all phases of a study work with."""

    folder: StudyFolder
    store: RunStore
    executor: Executor
    console: Console
    absences: dict[str, Absence] = field(default_factory=dict)


def conduct(
    study: StudyConfig, folder: StudyFolder, executor: Executor, console: Console, selection: Selection = EVERYTHING
) -> StudyResult:
    """Do what is not done yet of a study, and return what there is of it.

    Any number of processes, on any machines that share the folder, may do this at once: the store gives each run to
    one of them, and each process chooses from the results of all.

    Args:
        study: The study.
        folder: Where it is kept. One with another study is refused.
        executor: What does the runs.
        console: Where progress goes.
        selection: The part to do.

    Raises:
        LabError: Nothing could be run, or the folder cannot be used.
    """
    folder.keep(study)
    site = _Site(folder=folder, store=folder.store(), executor=executor, console=console)
    tuning = selection.of(trials(study))
    _run(tuning, site)
    sweeping = _sweep(study, selection, site)
    chosen = {
        **choices(tuning, _results(tuning, site.store)),
        **sweep_choices(study, _look(site.store)),
    }
    folder.keep_choices({**folder.choices(), **chosen})
    counting = selection.of(_counting(study, chosen))
    _run(counting, site)
    planned = [*tuning, *sweeping, *counting]
    attempted = {run.config.fingerprint() for run in planned}
    kept = {name: absence for name, absence in folder.absences().items() if name not in attempted}
    folder.keep_absences({**kept, **site.absences})
    _say_absences(planned, site)
    return load_study(folder)


def load_study(folder: StudyFolder) -> StudyResult:
    """What there is of a study, from its folder and the runs beside it alone."""
    study, store = folder.study(), folder.store()
    planned = [*trials(study), *swept(study, _look(store)), *_counting(study, folder.choices())]
    finished = [store.state(run.config) is RunState.FINISHED for run in planned]
    return StudyResult(
        study=study,
        runs=tuple((run, load(run.config, store)) for run, there in zip(planned, finished, strict=True) if there),
        missing=tuple(run for run, there in zip(planned, finished, strict=True) if not there),
        absences=folder.absences(),
    )


def failures(result: StudyResult) -> list[PlannedRun]:
    """The missing runs that broke, so that a new start may mend them."""
    absences = [result.absences.get(run.config.fingerprint()) for run in result.missing]
    return [run for run, absence in zip(result.missing, absences, strict=True) if absence and absence.is_failure]


def _results(runs: Sequence[PlannedRun], store: RunStore) -> dict[RunConfig, RunResult]:
    """Results of those ``runs`` that the store has, whichever process did them."""
    finished = {run.config for run in runs if store.state(run.config) is RunState.FINISHED}
    return {config: stored_result(config, store) for config in finished}


def _counting(study: StudyConfig, choices: Choices) -> list[PlannedRun]:
    """The final and the watched runs of the arms that are tuned and swept, or need not be."""
    return [
        run
        for run in (*finals(study, choices), *watched(study, choices))
        if (study.tuning is None and run.arm.sweep is None) or (run.task.workload, run.arm.name) in choices
    ]


def _sweep(study: StudyConfig, selection: Selection, site: _Site) -> list[PlannedRun]:
    """Do the sweeps, round by round: what one round comes to says what the next has to do.

    A sweep with a run that failed waits for it until the study is started again.
    """
    attempted: set[RunConfig] = set()
    while True:
        planned = selection.of(swept(study, _look(site.store)))
        coming = [run for run in planned if run.config not in attempted]
        if not coming:
            return planned
        _run(coming, site)
        attempted |= {run.config for run in coming}


def _look(store: RunStore) -> Look:
    """How the runs in the store ended."""

    @cache
    def look(config: RunConfig) -> End | None:
        if store.state(config) is not RunState.FINISHED:
            return None
        return end_of(stored_result(config, store), get_workload(config.workload).info.metric)

    return look


def _run(runs: Sequence[PlannedRun], site: _Site) -> None:
    """Do the runs, each config once, and note those that fail."""
    if not runs:
        return
    configs = list(dict.fromkeys(run.config for run in runs))
    _say_how_many_are_there(configs, site)
    with show_progress(site.console, configs, site.executor.jobs) as progress:

        def note(config: RunConfig, outcome: RunResult | Exception) -> None:
            if isinstance(outcome, Exception):
                site.absences[config.fingerprint()] = _absence(outcome)
            progress.done(config, describe(config, outcome))

        site.executor.run_all(configs, site.store, note, progress.started)


def _say_how_many_are_there(configs: Sequence[RunConfig], site: _Site) -> None:
    num_there = sum(site.store.state(config) is RunState.FINISHED for config in configs)
    if num_there:
        site.console.print(f"{num_there} of {len(configs)} runs are there already", highlight=False)


def _absence(error: Exception) -> Absence:
    if isinstance(error, LabError) and not isinstance(error, LostWorkerError):
        return Absence(is_failure=False, reason=str(error))
    return Absence(is_failure=True, reason=f"{type(error).__name__}: {error}")


def _say_absences(planned: Sequence[PlannedRun], site: _Site) -> None:
    reasons = Counter(
        (run.task.workload, run.arm.name, site.absences[run.config.fingerprint()].reason)
        for run in planned
        if run.config.fingerprint() in site.absences
    )
    for (workload, arm, reason), number in reasons.items():
        line = f"{number} runs of {arm} on {workload} are missing: {reason}"
        site.console.print(line, highlight=False, markup=False, soft_wrap=True)
    if planned and len({run.config for run in planned}) == len(site.absences):
        raise LabError(f"none of the {len(planned)} runs could be done; the first says: {next(iter(reasons))[2]}")
