"""The demo: which runs it is made of, and how they come to a report."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from dcao_lab.executors import LocalExecutor
from dcao_lab.progress import show_progress
from dcao_lab.report import write_report
from dcao_lab.runner import Outcome, RunResult, load
from dcao_lab.store import RunState, RunStore, damage
from dcao_lab.workloads import get_workload

OPTIMIZERS = ("adamw", "dcao:adamw", "sgd", "dcao:sgd")
LEARNING_RATES = (1e-5, 1e-3, 1e-1)
NUM_SEEDS = {"digits_mlp": 3, "digits_cnn": 3, "pydoc_gpt": 2}
WATCHED_SEED = 0  # its runs measure s and the spectrum; the others show what probing costs in everyday use
NUM_SPECTRA = 5  # a run; each costs 30 to 60 gradient evaluations
MIN_SPECTRUM_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class DemoSize:
    """How much of the demo to do.

    Attributes:
        workloads: Names of the workloads.
        num_steps: Training steps of every run; None takes each workload's own.
        num_seeds: Seeds of every workload; None takes the demo's own.
    """

    workloads: tuple[str, ...] = tuple(NUM_SEEDS)
    num_steps: int | None = None
    num_seeds: int | None = None


def demo_runs(size: DemoSize) -> list[RunConfig]:
    """The demo's runs, the slow workloads first, so that no process is left alone at the end.

    Runs that differ in nothing but DCAO are neighbours: other work on the machine slows both alike.

    Example:
        >>> len(demo_runs(DemoSize()))
        96
    """
    runs = [
        _config(workload, optimizer, lr, seed, size.num_steps)
        for workload in size.workloads
        for seed in range(size.num_seeds or NUM_SEEDS.get(workload, 1))
        for lr in LEARNING_RATES
        for optimizer in OPTIMIZERS
    ]
    return sorted(runs, key=lambda run: run.num_steps * get_workload(run.workload).info.step_cost, reverse=True)


def run_demo(size: DemoSize, out: Path, jobs: int, console: Console) -> Path:
    """Do the runs that are not done yet, write the report, and return the page's path."""
    configs = demo_runs(size)
    store = RunStore(out / "runs")
    failures = _run_missing(configs, store, jobs, console)
    if len(failures) == len(configs):
        raise LabError(f"all {len(configs)} runs failed, for the reasons above; start again to retry")
    page, headlines = write_report([load(config, store) for config in configs if config not in failures], out)
    for line in headlines:  # a terminal breaks them between words, a file keeps one line each
        console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)
    console.print(f"Report: {page}", highlight=False, markup=False, soft_wrap=True)
    if failures:
        raise LabError(f"{len(failures)} of {len(configs)} runs failed and are not in the report; start again to retry")
    return page


def missing_runs(configs: Iterable[RunConfig], store: RunStore, console: Console) -> list[RunConfig]:
    """The runs that the store does not have; a damaged one is set aside, and said."""
    missing = []
    for config in configs:
        state = store.state(config)
        if state is RunState.DAMAGED:
            reason = damage(store.folder(config), config)
            place = store.set_aside_damaged(config)
            console.print(
                f"{config.label} is done again: {reason} (what was there is now in {place})",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        if state is not RunState.FINISHED:
            missing.append(config)
    return missing


def _run_missing(configs: list[RunConfig], store: RunStore, jobs: int, console: Console) -> set[RunConfig]:
    """Do what is missing and return the runs that failed."""
    missing = missing_runs(configs, store, console)
    if len(missing) < len(configs):
        console.print(f"{len(configs) - len(missing)} of {len(configs)} runs are there already", highlight=False)
    failures: set[RunConfig] = set()
    if not missing:
        return failures

    with show_progress(console, missing) as progress:

        def on_done(config: RunConfig, outcome: RunResult | Exception) -> None:
            if isinstance(outcome, Exception):
                failures.add(config)
            progress.done(config, describe(config, outcome))

        LocalExecutor(jobs, threads=1).run_all(missing, store, on_done)
    return failures


def describe(config: RunConfig, outcome: RunResult | Exception) -> str:
    """What came out of a run, in a few words."""
    if isinstance(outcome, Exception):
        return f"failed: {type(outcome).__name__}: {outcome}"
    if outcome.outcome is Outcome.DIVERGED:
        return f"diverged after {outcome.num_steps} steps"
    metric = get_workload(config.workload).info.metric
    return f"{metric} {outcome.final[f'test_{metric}']:.4g}"


def _config(workload: str, optimizer: str, lr: float, seed: int, num_steps: int | None) -> RunConfig:
    info = get_workload(workload).info
    steps = num_steps or info.num_steps
    is_watched = seed == WATCHED_SEED
    return RunConfig(
        workload=workload,
        optimizer=optimizer,
        lr=lr,
        seed=seed,
        num_steps=steps,
        eval_every=min(info.eval_every, steps),
        watch=is_watched,
        spectrum_every=max(MIN_SPECTRUM_STEPS, steps // NUM_SPECTRA) if is_watched else None,
    )
