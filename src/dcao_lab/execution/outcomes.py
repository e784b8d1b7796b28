"""What came out of runs, in words for the terminal."""

from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from dcao_lab.runs.runner import Outcome, RunResult
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
