"""Studies: which runs answer a question, how their arms are tuned, and what they came to."""

from dcao_lab.study.config import Arm, StudyConfig, Sweep, Task, Tuning, Variation, Watching
from dcao_lab.study.result import Absence, PlannedRun, StudyResult

__all__ = [
    "Absence",
    "Arm",
    "PlannedRun",
    "StudyConfig",
    "StudyResult",
    "Sweep",
    "Task",
    "Tuning",
    "Variation",
    "Watching",
]
