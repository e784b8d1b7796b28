"""How long a study takes, roughly: what one sees before starting it."""

from collections.abc import Iterable

from dcao_lab.runs.expected import expected_seconds
from dcao_lab.study.config import StudyConfig
from dcao_lab.study.plan import finals, trials, watched
from dcao_lab.study.result import PlannedRun
from dcao_lab.study.sweeping import expected


def planned_runs(study: StudyConfig) -> list[PlannedRun]:
    """Every run of a study, as if tuning chose the defaults and sweeps the middle of their grids."""
    swept, choices = expected(study)
    return [*trials(study), *swept, *finals(study, choices), *watched(study, choices)]


def expected_hours(runs: Iterable[PlannedRun], jobs: int) -> float:
    """Hours that the runs take in ``jobs`` processes of one thread, on cores like those of the workloads' costs."""
    unique = {run.config for run in runs}  # arms that differ in name alone share theirs
    return sum(map(expected_seconds, unique)) / jobs / 3600.0
