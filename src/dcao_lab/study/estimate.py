"""How long a study takes, roughly: what one sees before starting it."""

from collections.abc import Iterable

from dcao_lab.baselines import get_baseline
from dcao_lab.config import RunConfig
from dcao_lab.runs.runner import expected_steps
from dcao_lab.study.config import StudyConfig
from dcao_lab.study.plan import finals, trials, watched
from dcao_lab.study.result import PlannedRun
from dcao_lab.workloads import get_workload

SECONDS_A_RUN = 0.4  # to start it, to evaluate, and to store it
WRAPPED = 1.6  # time of a step with DCAO's probes, against one without
WATCHED = 2.0  # with measurements of the spectrum
HEAVY = {"kfac": 3.0, "adahessian": 3.0, "soap": 3.0, "cdat": 2.5, "adler": 1.5, "muon": 1.5}  # rough
FIXED_SHARE = 0.5  # of a step's time that does not grow with the batch, on small networks


def planned_runs(study: StudyConfig) -> list[PlannedRun]:
    """Every run of a study, as if tuning chose the defaults."""
    return [*trials(study), *finals(study, {}), *watched(study, {})]


def expected_hours(runs: Iterable[PlannedRun], jobs: int) -> float:
    """Hours that the runs take in ``jobs`` processes of one thread, on cores like those of the workloads' costs."""
    unique = {run.config for run in runs}  # arms that differ in name alone share theirs
    return sum(map(expected_seconds, unique)) / jobs / 3600.0


def expected_seconds(config: RunConfig) -> float:
    """Seconds that a run takes on one core."""
    baseline = get_baseline(config.optimizer)
    info = get_workload(config.workload).info
    factor = WRAPPED if baseline.is_wrapped else HEAVY.get(baseline.name, 1.0)
    factor = max(factor, WATCHED) if config.watch else factor
    growth = FIXED_SHARE + (1.0 - FIXED_SHARE) * (config.batch_size or info.batch_size) / info.batch_size
    return SECONDS_A_RUN + expected_steps(config, baseline) * info.step_cost / 1000.0 * factor * growth
