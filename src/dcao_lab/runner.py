"""One run: from its config to a folder in the store."""

import enum
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import dcao
from dcao_lab import jsontext
from dcao_lab import store as names
from dcao_lab.baselines import BuildRequest, get_baseline
from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from dcao_lab.provenance import provenance
from dcao_lab.schedules import get_schedule
from dcao_lab.store import RunStore
from dcao_lab.training import EvaluationPoint, TrainingPlan, probe_cost, train
from dcao_lab.workloads import Problem, StartRequest, WorkloadInfo, get_workload


class Outcome(enum.Enum):
    """How a run ended. Divergence is a result."""

    FINISHED = "finished"
    DIVERGED = "diverged"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to.

    Attributes:
        outcome: How it ended.
        num_steps: Training steps done; fewer than asked for when it diverged.
        gradient_evaluations: Forward-and-backward passes spent, probes included.
        probe_evaluations: Those of them that probes spent.
        final: Metrics at the end; a value that is not a finite number is None.
        best: The best value of the workload's own metric at any evaluation; None when there is none.
    """

    outcome: Outcome
    num_steps: int
    gradient_evaluations: float
    probe_evaluations: float
    final: dict[str, float | None]
    best: float | None

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON has it."""
        return {**asdict(self), "outcome": self.outcome.value}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "RunResult":
        """The result that :meth:`to_dict` wrote."""
        return cls(**{**data, "outcome": Outcome(data["outcome"])})


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A finished run as the store has it.

    Attributes:
        config: What was asked for.
        result: What it came to.
        points: The evaluations, in order.
        probes: The probes' records, in order; empty for an optimizer that does not probe.
        provenance: Commit, versions and machine.
    """

    config: RunConfig
    result: RunResult
    points: tuple[EvaluationPoint, ...]
    probes: "tuple[dcao.StepRecord, ...]"
    provenance: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run is done: what does not decide its numbers, up to rounding.

    Attributes:
        data_dir: Folder of the data, for workloads that need some; None looks where the workload says.
        device: Device that trains, as torch spells it.
    """

    data_dir: Path | None = None
    device: str = "cpu"


HERE = Place()


def run(
    config: RunConfig,
    store: RunStore,
    place: Place = HERE,
    on_point: Callable[[EvaluationPoint], None] = lambda point: None,
) -> RunResult:
    """Do the run, store it, and return its result; ``on_point`` hears of each evaluation."""
    workload = get_workload(config.workload)
    get_baseline(config.optimizer)
    with store.writing(config) as folder:
        points, probes_cost = _train(config, place, folder, on_point)
        result = summarise(points, probes_cost, workload.info)
        _write(folder, result, points)
    return result


def load(config: RunConfig, store: RunStore) -> StoredRun:
    """The finished run from the store."""
    folder = store.folder(config)
    seconds = jsontext.read(folder / names.TIMING)["seconds"]
    lines = jsontext.read_lines(folder / names.METRICS)
    telemetry = folder / names.TELEMETRY
    return StoredRun(
        config=config,
        result=RunResult.from_dict(jsontext.read(folder / names.RESULT)),
        points=tuple(EvaluationPoint(**line, seconds=time) for line, time in zip(lines, seconds, strict=True)),
        probes=tuple(dcao.read_jsonl(telemetry)) if telemetry.exists() else (),
        provenance=jsontext.read(folder / names.PROVENANCE),
    )


def summarise(points: list[EvaluationPoint], probe_evaluations: float, info: WorkloadInfo) -> RunResult:
    """The result of a run with these evaluations."""
    last = points[-1]
    values = [value for point in points if (value := _number(point.metrics[f"test_{info.metric}"])) is not None]
    choose = max if info.higher_is_better else min
    diverged = not math.isfinite(last.metrics["test_loss"]) or not _is_finite(last.train_loss)
    return RunResult(
        outcome=Outcome.DIVERGED if diverged else Outcome.FINISHED,
        num_steps=last.step,
        gradient_evaluations=last.gradient_evaluations,
        probe_evaluations=probe_evaluations,
        final={name: _number(value) for name, value in last.metrics.items()},
        best=choose(values) if values else None,
    )


def _train(
    config: RunConfig, place: Place, folder: Path, on_point: Callable[[EvaluationPoint], None]
) -> tuple[list[EvaluationPoint], float]:
    torch.manual_seed(config.seed)  # dropout, where a model has it; everything else has its own generator
    problem = start(config, place)
    optimizer = _build(config, problem, folder)
    plan = TrainingPlan(
        num_steps=config.num_steps,
        eval_every=config.eval_every,
        budget=config.budget,
        schedule=get_schedule(config.schedule),
    )
    points = []
    for point in train(problem, optimizer, plan):
        points.append(point)
        on_point(point)
    return points, probe_cost(optimizer)


def start(config: RunConfig, place: Place) -> Problem:
    """The workload as the config wants it, on the place's device."""
    request = StartRequest(
        seed=config.seed,
        batch_size=config.batch_size,
        label_noise=config.label_noise,
        data_dir=place.data_dir,
        device=torch.device(place.device),
    )
    problem = get_workload(config.workload).start(request)
    if config.init_scale != 1.0:
        with torch.no_grad():
            for param in problem.model.parameters():
                if param.ndim >= 2:  # weight matrices and kernels, not biases and norms
                    param.mul_(config.init_scale)
    return problem


def _build(config: RunConfig, problem: Problem, folder: Path) -> torch.optim.Optimizer:
    try:
        return get_baseline(config.optimizer).build(problem, _request(config, folder))
    except ValueError as error:
        raise LabError(f"{config.optimizer} from lr={config.lr:g}: {error}") from error


def _request(config: RunConfig, folder: Path) -> BuildRequest:
    probes = get_baseline(config.optimizer).is_wrapped or config.watch
    return BuildRequest(
        lr=config.lr,
        settings=dict(config.settings),
        num_steps=config.num_steps,
        seed=config.seed,
        watch=config.watch,
        spectrum_every=config.spectrum_every,
        recorder=dcao.JsonlRecorder(folder / names.TELEMETRY) if probes else None,
    )


def _write(folder: Path, result: RunResult, points: list[EvaluationPoint]) -> None:
    """Times go to a file of their own: the others are then the same bytes whenever the run is done again."""
    lines = [asdict(point) for point in points]
    seconds = [line.pop("seconds") for line in lines]
    jsontext.write_lines(folder / names.METRICS, lines)
    jsontext.write(folder / names.TIMING, {"seconds": seconds})
    jsontext.write(folder / names.PROVENANCE, provenance())
    jsontext.write(folder / names.RESULT, result.to_dict())


def _number(value: float | None) -> float | None:
    return value if _is_finite(value) else None


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
