"""What came out of runs, in words for the terminal."""

from collections.abc import Iterable

from rich.console import Console

from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from dcao_lab.runs.runner import Outcome, RunResult
from dcao_lab.runs.store import RunState, RunStore, damage
from dcao_lab.workloads import get_workload


def describe(config: RunConfig, outcome: RunResult | Exception) -> str:
    """What came out of a run, in a few words."""
    if isinstance(outcome, LabError):
        return f"not done: {outcome}"
    if isinstance(outcome, Exception):
        return f"failed: {type(outcome).__name__}: {outcome}"
    if outcome.outcome is Outcome.DIVERGED:
        return f"diverged after {outcome.num_steps} steps"
    metric = get_workload(config.workload).info.metric
    value = outcome.final[f"test_{metric}"]
    return f"{metric} {'-' if value is None else f'{value:.4g}'}"


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
