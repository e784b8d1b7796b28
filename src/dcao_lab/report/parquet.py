"""The study's runs, evaluations and watched probes as tables for other programs, and read again from them."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

import dcao
from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from dcao_lab.files import jsontext
from dcao_lab.runs.result import RunResult, StoredRun, Timing
from dcao_lab.runs.training import EvaluationPoint
from dcao_lab.study.config import StudyConfig, Variation
from dcao_lab.study.folders import STUDY
from dcao_lab.study.result import PlannedRun, StudyResult

RUNS = "runs.parquet"
EVALUATIONS = "evaluations.parquet"
PROBES = "probes.parquet"

Key = tuple[Any, ...]
Found = TypeVar("Found")


def write_tables(result: StudyResult, folder: Path) -> list[Path]:
    """Write a row a run, a row an evaluation and a row a probe of the watched runs into ``folder``; their paths.

    Settings, the curvature of solutions and a probe's record are JSON texts in them. Without watched probes there is no
    file of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        RUNS: [_run(planned, run) for planned, run in result.runs],
        EVALUATIONS: [row for planned, run in result.runs for row in _evaluations(planned, run)],
        PROBES: [row for planned, run in result.runs if planned.phase == "watched" for row in _probes(planned, run)],
    }
    (folder / PROBES).unlink(missing_ok=True)  # of what was here before
    return [_write(rows, folder / name) for name, rows in tables.items() if rows]


def _write(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = pa.table({column: [row.get(column) for row in rows] for column in columns})
    pq.write_table(table, path, compression="zstd")
    return path


def _place(planned: PlannedRun) -> dict[str, Any]:
    return {
        "phase": planned.phase,
        "task": planned.task.workload,
        "arm": planned.arm.name,
        "group": planned.arm.group,
        "axis": planned.variation.axis if planned.variation else None,
        "value": float(planned.variation.value) if planned.variation else None,
    }


def _run(planned: PlannedRun, run: StoredRun) -> dict[str, Any]:
    config = {key: value for key, value in run.config.to_dict().items() if key not in ("format", "workload")}
    outcome = {key: value for key, value in run.result.to_dict().items() if key not in ("final", "num_steps")}
    timing = {key: value for key, value in vars(run.timing).items() if key != "seconds"}
    return {
        **_place(planned),
        **config,
        "settings": jsontext.dumps(config["settings"]),
        **outcome,
        "solution": None if run.result.solution is None else jsontext.dumps(run.result.solution),
        "steps_done": run.result.num_steps,
        **{f"final_{name}": value for name, value in run.result.final.items()},
        **timing,
        "seconds": run.points[-1].seconds,
        "commit": run.provenance.get("commit"),
        "fingerprint": run.config.fingerprint(),
    }


def _shared(planned: PlannedRun, run: StoredRun) -> dict[str, Any]:
    return {**_place(planned), "seed": run.config.seed, "fingerprint": run.config.fingerprint()}


def _probes(planned: PlannedRun, run: StoredRun) -> list[dict[str, Any]]:
    shared = _shared(planned, run)
    return [{**shared, "step": one.step, "record": jsontext.dumps(one.to_dict())} for one in run.probes]


def _evaluations(planned: PlannedRun, run: StoredRun) -> list[dict[str, Any]]:
    shared = _shared(planned, run)
    rows = []
    for point in run.points:
        values = {name: value for name, value in vars(point).items() if name != "metrics"}
        rows.append({**shared, **point.metrics, **values})  # both have a train_loss; that of the data is in runs
    return rows


def read_tables(study: StudyConfig, folder: Path) -> StudyResult:
    """What :func:`write_tables` wrote of ``study`` into ``folder``.

    It does not say which runs are missing, and has no probes but those of the watched runs. The evaluations at the end
    lack the loss on training data, which each run's result has.

    Raises:
        LabError: The tables have a workload or an arm that the study has not.
    """
    rows, evaluations, records = (_rows(folder / name) for name in (RUNS, EVALUATIONS, PROBES))
    _require_of(study, rows)
    finals, metrics = _names(rows, "final_"), _names(evaluations, ("test_", "validation_", "train_"))
    points = _by_run(evaluations, lambda row: _point(row, metrics[row["task"]]))
    probes = _by_run(records, lambda row: dcao.StepRecord.from_dict(json.loads(row["record"])))
    runs = tuple(
        (
            plan := _planned(study, row),
            StoredRun(
                config=plan.config,
                result=_result(row, finals[row["task"]]),
                points=tuple(points.get(_key(row), ())),
                probes=tuple(probes.get(_key(row), ())),
                provenance={"commit": row["commit"]},
                timing=_timing(row, points.get(_key(row), ())),
            ),
        )
        for row in rows
    )
    return StudyResult(study=study, runs=runs, missing=())


def _rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist() if path.exists() or path.name != PROBES else []
    return found


def _by_run(rows: Iterable[dict[str, Any]], read: Callable[[dict[str, Any]], Found]) -> dict[Key, list[Found]]:
    """What ``read`` makes of the rows of each run, in their order."""
    found: dict[Key, list[Found]] = {}
    for row in rows:
        found.setdefault(_key(row), []).append(read(row))
    return found


def _require_of(study: StudyConfig, rows: Sequence[dict[str, Any]]) -> None:
    tasks, arms = {task.workload for task in study.tasks}, {arm.name for arm in study.arms}
    for row in rows:
        if row["task"] not in tasks or row["arm"] not in arms:
            raise LabError(
                f"{RUNS} has runs of {row['arm']} on {row['task']}, which the {STUDY} beside it has not; "
                "copy both from the same study"
            )


def _names(rows: Sequence[dict[str, Any]], prefix: str | tuple[str, ...]) -> dict[str, list[str]]:
    """The columns with such a prefix that each task has a value in: a column may be of other tasks alone."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        own = found.setdefault(row["task"], {})
        own.update(dict.fromkeys(name for name in row if name.startswith(prefix) and row[name] is not None))
    return {task: list(own) for task, own in found.items()}


def _key(row: dict[str, Any]) -> Key:
    return tuple(row[name] for name in ("phase", "task", "arm", "axis", "value", "fingerprint"))


def _planned(study: StudyConfig, row: dict[str, Any]) -> PlannedRun:
    own = {each.name: row[each.name] for each in fields(RunConfig) if each.name in row}
    return PlannedRun(
        phase=row["phase"],
        task=next(task for task in study.tasks if task.workload == row["task"]),
        arm=study.arm(row["arm"]),
        variation=None if row["axis"] is None else Variation(axis=row["axis"], value=row["value"]),
        config=RunConfig(**{**own, "workload": row["task"], "settings": json.loads(row["settings"])}),
    )


def _result(row: dict[str, Any], names: Sequence[str]) -> RunResult:
    own = {each.name: row[each.name] for each in fields(RunResult) if each.name in row}
    final = {name.removeprefix("final_"): row[name] for name in names}
    solution = None if row["solution"] is None else json.loads(row["solution"])
    return RunResult.from_dict({**own, "num_steps": row["steps_done"], "final": final, "solution": solution})


def _timing(row: dict[str, Any], points: Sequence[EvaluationPoint]) -> Timing:
    """The times; those of each evaluation are in the evaluations."""
    own = {each.name: row[each.name] for each in fields(Timing) if each.name in row}
    return Timing(**{**own, "seconds": tuple(point.seconds for point in points)})


def _point(row: dict[str, Any], names: Sequence[str]) -> EvaluationPoint:
    """An evaluation; its training metrics are there only at the end, where None is one that diverged."""
    own = {each.name: row[each.name] for each in fields(EvaluationPoint) if each.name in row}
    is_there = [name for name in names if not name.startswith("train_") or row[name] is not None]
    return EvaluationPoint(**own, metrics={name: row[name] for name in is_there if name not in own})
