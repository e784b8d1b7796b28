"""The study's runs and evaluations as tables for other programs."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcao_lab.files import jsontext
from dcao_lab.runs.runner import StoredRun
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
        rows.append({**shared, **values, **point.metrics})
    return rows
