"""Every run, what is missing, and where the numbers come from."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from dcao_lab.report import formats
from dcao_lab.report.analysis.view import final_metric, ignores_lr, in_study_order
from dcao_lab.report.names import named_arm
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.tables.base import Column, Table
from dcao_lab.report.tables.costs import settings
from dcao_lab.runs.runner import StoredRun
from dcao_lab.study.result import PlannedRun, StudyResult
from dcao_lab.workloads import get_workload

MOST_RUNS = 200  # rows of the page's table; all of them are in the Parquet beside it


def all_runs(result: StudyResult, numbers: Numbers) -> Table:
    """Every run with what it came to."""
    columns = ["phase", "workload", "arm", "conditions", "lr", "other settings", "seed", "outcome", "final", "best",
               "steps", "gradient evaluations", "fingerprint"]  # fmt: skip
    ordered = in_study_order(result.runs, result.study, lambda pair: pair[0])
    rows = [_run(planned, run, numbers) for planned, run in ordered[:MOST_RUNS]]
    left = len(result.runs) - len(rows)
    first = f"The first {formats.count(MOST_RUNS)} of {formats.count(len(result.runs))}"
    note = f"{first}; all are in tables/runs.parquet." if left else ""
    return _folded("Runs", columns, rows, note)


def missing(result: StudyResult) -> Table:
    """Runs that are planned and not there, those of one reason together."""
    absent = in_study_order(result.missing, result.study, lambda run: run)
    counts = Counter((p.phase, _workload(p), named_arm(p.arm).title, _reason(result, p)) for p in absent)
    rows = [[*key[:3], formats.count(number), key[3]] for key, number in counts.items()]
    note = (
        "What failed or is not done yet is done when the study is started again; what cannot be trained stays missing."
    )
    return _folded("Missing runs", ["phase", "workload", "arm", "runs", "why"], rows, note)


def _folded(label: str, titles: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> Table:
    columns = [Column(title=title) for title in titles]
    name = label.lower().replace(" ", "_")
    return Table(name=name, label=label, columns=columns, rows=rows, note=note, most=0)


def _workload(run: PlannedRun) -> str:
    return get_workload(run.task.workload).info.title


def _reason(result: StudyResult, run: PlannedRun) -> str:
    absence = result.absences.get(run.config.fingerprint())
    return absence.reason if absence else "not done yet"


def _run(planned: PlannedRun, run: StoredRun, numbers: Numbers) -> list[str]:
    info, config = numbers.view.infos[run.config.workload], run.config
    return [
        planned.phase,
        info.title,
        numbers.title(planned.arm.name),
        formats.variation(planned.variation),
        formats.ANY if ignores_lr(config) else formats.learning_rate(config.lr),
        settings(config.settings),
        str(config.seed),
        run.result.outcome.value,
        formats.metric(info, final_metric(run, info)),
        formats.metric(info, run.result.best),
        formats.count(run.result.num_steps),
        formats.count(run.result.gradient_evaluations),
        config.fingerprint(),
    ]


def origins(result: StudyResult) -> list[list[str]]:
    """Where the numbers come from; several values where the runs differ."""
    runs = [run.provenance for _, run in result.runs]
    labels = {
        "commit": "commit",
        "has_uncommitted_changes": "uncommitted changes",
        "processor": "processor",
        "device": "device",
        "num_cores": "cores",
        "num_threads": "threads a run",
        "system": "system",
    }
    rows = [[label, _distinct(run.get(key) for run in runs)] for key, label in labels.items()]
    packages = dict.fromkeys(name for run in runs for name in run.get("versions", {}))
    rows += [[package, _distinct(run.get("versions", {}).get(package) for run in runs)] for package in packages]
    times = sorted(run["time"] for run in runs if "time" in run)
    dates = [["first run", times[0]], ["last run", times[-1]]] if times else []
    return [["study", result.study.fingerprint()], *rows, *dates]


def _distinct(values: Iterable[Any]) -> str:
    return ", ".join(sorted({str(value) for value in values}))
