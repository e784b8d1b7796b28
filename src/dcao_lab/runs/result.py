"""What a run came to, and how the store has it."""

import enum
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dcao
from dcao_lab.config import RunConfig
from dcao_lab.runs.metrics import best_of, first_at_target, generalisation_gap, largest_rise, number, oscillation
from dcao_lab.runs.training import EvaluationPoint
from dcao_lab.workloads.base import WorkloadInfo


class Outcome(enum.Enum):
    """How a run ended. Divergence is a result."""

    FINISHED = "finished"
    DIVERGED = "diverged"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to.

    Attributes:
        outcome: How it ended.
        num_steps: Training steps done; fewer than asked for when it diverged or its budget was spent.
        gradient_evaluations: Forward-and-backward passes spent, probes included.
        probe_evaluations: Those of them that probes spent.
        final: Metrics at the end; a value that is not a finite number is None.
        best: The best value of the workload's own metric on test data at any evaluation; None when there is none.
        best_validation: The same on validation data.
        target_step: Training steps until the first evaluation whose validation metric reached the workload's target;
            None: never (the time to it is censored at the run's end).
        target_evaluations: Gradient evaluations until then.
        oscillation: How far the loss is from its trend (:func:`dcao_lab.runs.metrics.oscillation`).
        largest_rise: How far its trend ever rose (:func:`dcao_lab.runs.metrics.largest_rise`).
        generalisation_gap: Loss on test data minus loss on training data, at the end.
        solution: Curvature of the trained network (:func:`~dcao_lab.runs.solution.measure_solution`);
            None: not asked for.
        held_copies: What the optimizer held at the end, in copies of the parameters
            (:func:`dcao_lab.runs.held_memory.held_copies`); None: of an older run.
    """

    outcome: Outcome
    num_steps: int
    gradient_evaluations: float
    probe_evaluations: float
    final: dict[str, float | None]
    best: float | None
    best_validation: float | None = None
    target_step: int | None = None
    target_evaluations: float | None = None
    oscillation: float | None = None
    largest_rise: float | None = None
    generalisation_gap: float | None = None
    solution: dict[str, Any] | None = None
    held_copies: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON has it."""
        return {**asdict(self), "outcome": self.outcome.value}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "RunResult":
        """The result that :meth:`to_dict` wrote."""
        return cls(**{**data, "outcome": Outcome(data["outcome"])})


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What differs from one time that a run is done to the next.

    Attributes:
        seconds: Spent on training steps until each evaluation.
        steps_seconds: Spent on all training steps, batches and probes included.
        evaluation_seconds: Spent on evaluations.
        solution_seconds: Spent on the curvature of the trained network.
        target_seconds: Spent on training steps until the target was reached; None: it was not.
        peak_bytes: Peak memory (:class:`~dcao_lab.runs.peak_memory.PeakMemory`), the curvature of the trained network
            left out; None where the system does not say.
    """

    seconds: tuple[float, ...] = ()
    steps_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    solution_seconds: float = 0.0
    target_seconds: float | None = None
    peak_bytes: int | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Timing":
        """The timing as JSON has it."""
        return cls(**{**data, "seconds": tuple(data["seconds"])})


NOT_TIMED = Timing()


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A finished run as the store has it.

    Attributes:
        config: What was asked for.
        result: What it came to.
        points: The evaluations, in order.
        probes: The probes' records, in order; empty for an optimizer that does not probe.
        provenance: Commit, versions and machine.
        timing: How long it took, and how much memory.
    """

    config: RunConfig
    result: RunResult
    points: tuple[EvaluationPoint, ...]
    probes: "tuple[dcao.StepRecord, ...]"
    provenance: dict[str, Any]
    timing: Timing = NOT_TIMED


def summarise(
    points: Sequence[EvaluationPoint],
    losses: Sequence[float],
    probe_evaluations: float,
    info: WorkloadInfo,
    solution: dict[str, Any] | None = None,
    held_copies: float | None = None,
) -> RunResult:
    """The result of a run with these evaluations and these mini-batch losses, one a step."""
    last, reached = points[-1], first_at_target(points, info)
    final = {name: number(value) for name, value in last.metrics.items()}
    diverged = final["test_loss"] is None or (len(losses) > 0 and number(losses[-1]) is None)
    return RunResult(
        outcome=Outcome.DIVERGED if diverged else Outcome.FINISHED,
        num_steps=last.step,
        gradient_evaluations=last.gradient_evaluations,
        probe_evaluations=probe_evaluations,
        final=final,
        best=best_of(points, info, "test"),
        best_validation=best_of(points, info, "validation"),
        target_step=None if reached is None else reached.step,
        target_evaluations=None if reached is None else reached.gradient_evaluations,
        oscillation=oscillation(losses),
        largest_rise=largest_rise(losses),
        generalisation_gap=generalisation_gap(final),
        solution=solution,
        held_copies=held_copies,
    )
