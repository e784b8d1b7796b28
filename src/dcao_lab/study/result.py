"""What a study came to: its runs, each with its place in the study."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dcao_lab.config import RunConfig
from dcao_lab.runs.runner import StoredRun
from dcao_lab.study.config import Arm, StudyConfig, Task, Variation

Phase = Literal["trial", "final", "watched"]


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run and what it is for.

    Attributes:
        phase: ``trial`` tunes, ``final`` counts, ``watched`` measures and enters no comparison.
        task: What it trains.
        arm: What it trains with.
        variation: Change of the conditions; None: none.
        config: The run itself.
    """

    phase: Phase
    task: Task
    arm: Arm
    variation: Variation | None
    config: RunConfig


@dataclass(frozen=True, kw_only=True)
class Absence:
    """Why a run is not there although it was tried.

    Attributes:
        is_failure: Something broke, and a new start may mend it; else the arm cannot train the workload, by its rules.
        reason: What it said.
    """

    is_failure: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """The runs of a study that are there.

    Attributes:
        study: The study.
        runs: The finished runs (diverged ones among them), each with its place, in the study's order.
        missing: Runs that are planned and not there: failed, or not done yet.
        absences: Why, of those that were tried, by the fingerprints of their configs.
    """

    study: StudyConfig
    runs: tuple[tuple[PlannedRun, StoredRun], ...]
    missing: tuple[PlannedRun, ...]
    absences: Mapping[str, Absence] = field(default_factory=dict)
