"""The study's runs and evaluations as tables for other programs, and read again from them."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from dcao_lab.files import jsontext
from dcao_lab.runs.result import RunResult, StoredRun
from dcao_lab.runs.training import EvaluationPoint
from dcao_lab.study.config import StudyConfig, Variation
from dcao_lab.study.folders import STUDY
from dcao_lab.study.result import PlannedRun, StudyResult

RUNS = "runs.parquet"
EVALUATIONS = "evaluations.parquet"


def write_tables(result: StudyResult, folder: Path) -> None:
    """Write a row a run and a row an evaluation into ``folder``; settings and curvature are JSON texts in them."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = [_run(planned, run) for planned, run in result.runs]
    evaluations = [row for planned, run in result.runs for row in _evaluations(planned, run)]
    for name, rows in ((RUNS, runs), (EVALUATIONS, evaluations)):
        columns = list(dict.fromkeys(column for row in rows for column in row))
        table = pa.table({column: [row.get(column) for row in rows] for column in columns})
        pq.write_table(table, folder / name, compression="zstd")


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


def _evaluations(planned: PlannedRun, run: StoredRun) -> list[dict[str, Any]]:
    shared = {**_place(planned), "seed": run.config.seed, "fingerprint": run.config.fingerprint()}
    rows = []
    for point in run.points:
        values = {name: value for name, value in vars(point).items() if name != "metrics"}
        rows.append({**shared, **point.metrics, **values})  # both have a train_loss; that of the data is in runs
    return rows


def read_tables(study: StudyConfig, folder: Path) -> StudyResult:
    """What :func:`write_tables` wrote of ``study`` into ``folder``.

    It does not say which runs are missing, and has neither the probes' records nor the times of the runs. The
    evaluations at the end lack the loss on training data, which each run's result has.

    Raises:
        LabError: The tables have a workload or an arm that the study has not.
    """
    rows, evaluations = (pq.read_table(folder / name).to_pylist() for name in (RUNS, EVALUATIONS))
    _require_of(study, rows)
    finals, metrics = _names(rows, "final_"), _names(evaluations, ("test_", "validation_", "train_"))
    points: dict[tuple[Any, ...], list[EvaluationPoint]] = {}
    for row in evaluations:
        points.setdefault(_key(row), []).append(_point(row, metrics[row["task"]]))
    runs = tuple(
        (
            plan := _planned(study, row),
            StoredRun(
                config=plan.config,
                result=_result(row, finals[row["task"]]),
                points=tuple(points.get(_key(row), ())),
                probes=(),
                provenance={"commit": row["commit"]},
            ),
        )
        for row in rows
    )
    return StudyResult(study=study, runs=runs, missing=())


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


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
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


def _point(row: dict[str, Any], names: Sequence[str]) -> EvaluationPoint:
    """An evaluation; its training metrics are there only at the end, where None is one that diverged."""
    own = {each.name: row[each.name] for each in fields(EvaluationPoint) if each.name in row}
    is_there = [name for name in names if not name.startswith("train_") or row[name] is not None]
    return EvaluationPoint(**own, metrics={name: row[name] for name in is_there if name not in own})
