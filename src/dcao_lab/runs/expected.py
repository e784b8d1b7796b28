"""What a run will probably take: training steps, and seconds on one core."""

from dcao_lab.baselines import Baseline, get_baseline
from dcao_lab.config import RunConfig
from dcao_lab.workloads import get_workload

SECONDS_A_RUN = 0.4  # to start it, to evaluate, and to store it
WRAPPED = 1.6  # time of a step with DCAO's probes, against one without
WATCHED = 2.0  # with measurements of the spectrum
HEAVY = {"kfac": 3.0, "adahessian": 3.0, "soap": 3.0, "cdat": 2.5, "adler": 1.5, "muon": 1.5}  # rough
FIXED_SHARE = 0.5  # of a step's time that does not grow with the batch, on small networks


def expected_steps(config: RunConfig, baseline: Baseline) -> int:
    """Training steps that the run will probably make: what its budget allows, by the rule of its optimizer."""
    if config.budget is None:
        return config.num_steps
    return min(config.num_steps, baseline.steps_within(config.budget))


def expected_seconds(config: RunConfig) -> float:
    """Seconds that a run takes on one core like those of the workloads' costs."""
    baseline = get_baseline(config.optimizer)
    info = get_workload(config.workload).info
    factor = WRAPPED if baseline.is_wrapped else HEAVY.get(baseline.name, 1.0)
    factor = max(factor, WATCHED) if config.watch else factor
    growth = FIXED_SHARE + (1.0 - FIXED_SHARE) * (config.batch_size or info.batch_size) / info.batch_size
    return SECONDS_A_RUN + expected_steps(config, baseline) * info.step_cost / 1000.0 * factor * growth
