"""One run: from its config to a folder in the store."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import dcao
from dcao_lab.baselines import Baseline, BuildRequest, get_baseline
from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from dcao_lab.files import jsontext
from dcao_lab.runs import store as names
from dcao_lab.runs.expected import expected_steps
from dcao_lab.runs.held_memory import held_copies
from dcao_lab.runs.metrics import first_at_target
from dcao_lab.runs.peak_memory import PeakMemory
from dcao_lab.runs.provenance import provenance
from dcao_lab.runs.result import Outcome, RunResult, StoredRun, Timing, summarise
from dcao_lab.runs.schedules import get_schedule
from dcao_lab.runs.solution import measure_solution
from dcao_lab.runs.store import RunStore
from dcao_lab.runs.training import EvaluationPoint, TrainingPlan, probe_cost, train
from dcao_lab.runs.training_log import TrainingLog, write_steps
from dcao_lab.workloads import Problem, StartRequest, Workload, WorkloadInfo, get_workload
from dcao_lab.workloads.base import CPU

__all__ = [
    "HERE",
    "Outcome",
    "RunPlace",
    "RunResult",
    "StoredRun",
    "Timing",
    "load",
    "load_steps",
    "run",
    "start",
    "stored_result",
    "summarise",
]


@dataclass(frozen=True, kw_only=True)
class RunPlace:
    """Where a run is done: what does not decide its numbers, up to rounding.

    Attributes:
        data_dir: Folder of the data, for workloads that need some; None looks where the workload says.
        device: Device that trains, as torch spells it.
    """

    data_dir: Path | None = None
    device: str = "cpu"


HERE = RunPlace()


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A run whose names are resolved."""

    config: RunConfig
    workload: Workload
    baseline: Baseline
    data_dir: Path | None
    device: torch.device

    def start(self) -> Problem:
        return start(self.config, self.workload, self.device, self.data_dir)


def run(
    config: RunConfig,
    store: RunStore,
    place: RunPlace = HERE,
    on_point: Callable[[EvaluationPoint], None] = lambda point: None,
) -> RunResult:
    """Do the run, store it, and return its result; ``on_point`` hears of each evaluation."""
    job = _Job(
        config=config,
        workload=get_workload(config.workload),
        baseline=get_baseline(config.optimizer),
        data_dir=place.data_dir,
        device=require_device(place.device),
    )
    with store.writing(config) as folder:
        trained = _train(job, folder, on_point)
        held = held_copies(trained.optimizer, trained.problem.model)
        solution, solution_seconds = _solution(job, trained)
        cost = probe_cost(trained.optimizer)
        info = job.workload.info
        result = summarise(trained.points, trained.log.loss, cost, info, solution, held)
        _write(folder, result, trained, _timing(trained, info, solution_seconds), provenance(job.device))
    return result


def load(config: RunConfig, store: RunStore) -> StoredRun:
    """The finished run from the store."""
    folder = store.folder(config)
    timing = Timing.from_dict(jsontext.read(folder / names.TIMING))
    lines = jsontext.read_lines(folder / names.METRICS)
    telemetry = folder / names.TELEMETRY
    return StoredRun(
        config=config,
        result=stored_result(config, store),
        points=tuple(EvaluationPoint(**line, seconds=spent) for line, spent in zip(lines, timing.seconds, strict=True)),
        probes=tuple(dcao.read_jsonl(telemetry)) if telemetry.exists() else (),
        provenance=jsontext.read(folder / names.PROVENANCE),
        timing=timing,
    )


def stored_result(config: RunConfig, store: RunStore) -> RunResult:
    """What a finished run came to."""
    return RunResult.from_dict(jsontext.read(store.folder(config) / names.RESULT))


def load_steps(config: RunConfig, store: RunStore) -> pa.Table:
    """Every training step of a finished run: ``step`` from 1, ``loss``, ``lr`` and ``gradient_evaluations``.

    Losses that are not finite are in it as they were.
    """
    return pq.read_table(store.folder(config) / names.STEPS)


@dataclass(frozen=True, kw_only=True)
class _Trained:
    problem: Problem
    optimizer: torch.optim.Optimizer
    points: list[EvaluationPoint]
    log: TrainingLog
    peak_bytes: int | None


def _train(job: _Job, folder: Path, on_point: Callable[[EvaluationPoint], None]) -> _Trained:
    memory = PeakMemory(job.device)
    _seed(job.config.seed, job.device)
    problem = job.start()
    optimizer = _build(job, problem, folder)
    points, log = [], TrainingLog()
    for point in train(problem, optimizer, _plan(job.config, job.baseline), log):
        points.append(point)
        on_point(point)
    return _Trained(problem=problem, optimizer=optimizer, points=points, log=log, peak_bytes=memory.bytes())


def _seed(seed: int, device: torch.device) -> None:
    """Seed the global streams: of dropout, where a model has it; everything else has its own generator.

    Without a GPU ``torch.manual_seed`` takes half a millisecond, and keeps a traceback for the day there is one.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _plan(config: RunConfig, baseline: Baseline) -> TrainingPlan:
    # DCAO is told when the run ends. Where the guard skips a step that was due for a probe, the budget has one more.
    knows_its_end = baseline.probes is not None
    return TrainingPlan(
        num_steps=expected_steps(config, baseline) if knows_its_end else config.num_steps,
        eval_every=config.eval_every,
        budget=config.budget,
        schedule=get_schedule(config.schedule),
    )


def _solution(job: _Job, trained: _Trained) -> tuple[dict[str, Any] | None, float]:
    """The curvature of the trained network, if asked for, and the seconds that it took."""
    if not job.config.measure_solution:
        return None, 0.0
    started = time.perf_counter()
    batches = job.start().batches  # those of the run from its first on, whatever the run has used
    solution = measure_solution(trained.problem, trained.optimizer, batches, job.config.seed)
    return solution, time.perf_counter() - started


def start(config: RunConfig, workload: Workload, device: torch.device = CPU, data_dir: Path | None = None) -> Problem:
    """The workload as the config wants it, on ``device``, with the data of ``data_dir``."""
    request = StartRequest(
        seed=config.seed,
        batch_size=config.batch_size,
        label_noise=config.label_noise,
        data_dir=data_dir,
        device=device,
    )
    problem = workload.start(request)
    if config.init_scale != 1.0:
        with torch.no_grad():
            for param in problem.model.parameters():
                if param.ndim >= 2:  # weight matrices and kernels, not biases and norms
                    param.mul_(config.init_scale)
    return problem


def require_device(name: str) -> torch.device:
    """The device, if this machine has it.

    Raises:
        LabError: It has not, or nothing is called that.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises each of them
        reason = str(error).splitlines()[0]
        raise LabError(f"device {name!r} cannot be used here: {reason}; for example --device cpu") from error


def _build(job: _Job, problem: Problem, folder: Path) -> torch.optim.Optimizer:
    config, baseline = job.config, job.baseline
    probes = baseline.is_wrapped or config.watch
    request = BuildRequest(
        lr=config.lr,
        settings=dict(config.settings),
        num_steps=expected_steps(config, baseline),
        seed=config.seed,
        watch=config.watch,
        spectrum_every=config.spectrum_every,
        recorder=dcao.JsonlRecorder(folder / names.TELEMETRY) if probes else None,
    )
    try:
        return baseline.build(problem, request)
    except ValueError as error:
        raise LabError(f"{config.optimizer} from lr={config.lr:g}: {error}") from error


def _timing(trained: _Trained, info: WorkloadInfo, solution_seconds: float) -> Timing:
    reached = first_at_target(trained.points, info)
    return Timing(
        seconds=tuple(point.seconds for point in trained.points),
        steps_seconds=trained.log.seconds,
        evaluation_seconds=trained.log.evaluation_seconds,
        solution_seconds=solution_seconds,
        target_seconds=None if reached is None else reached.seconds,
        peak_bytes=trained.peak_bytes,
    )


def _write(folder: Path, result: RunResult, trained: _Trained, timing: Timing, origin: dict[str, Any]) -> None:
    """Times go to a file of their own: the others are then the same bytes whenever the run is done again."""
    lines = [{name: value for name, value in vars(point).items() if name != "seconds"} for point in trained.points]
    jsontext.write_lines(folder / names.METRICS, lines)
    write_steps(folder / names.STEPS, trained.log)
    jsontext.write(folder / names.TIMING, vars(timing))
    jsontext.write(folder / names.PROVENANCE, origin)
    jsontext.write(folder / names.RESULT, result.to_dict())
