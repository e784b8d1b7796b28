"""The report's tables, every cell spelled."""

from typing import Any

from dcao_lab.report import formats
from dcao_lab.report.summary import Arm, WorkloadSummary, final_metric, ranking
from dcao_lab.runner import StoredRun

NUM_SHADES = 5

Context = dict[str, Any]


def results(summary: WorkloadSummary) -> Context:
    """Final metric by optimizer and initial learning rate, each cell shaded by its rank."""
    shade = _shades(summary)
    return {
        "columns": [formats.learning_rate(lr) for lr in summary.learning_rates],
        "rows": [
            {
                "title": baseline.title,
                "cells": [
                    _cell(summary, summary.arms.get((baseline.name, lr)), shade) for lr in summary.learning_rates
                ],
            }
            for baseline in summary.baselines
        ],
    }


def _cell(summary: WorkloadSummary, arm: Arm | None, shade: dict[float | None, int]) -> Context:
    if arm is None:
        return {"text": formats.DASH, "detail": "", "shade": 0}
    spread = [formats.metric(summary.info, value) for value in (min(arm.values), max(arm.values))] if arm.values else []
    details = [formats.span(*spread)] if spread and spread[0] != spread[1] else []
    if arm.num_diverged:
        details.append(f"{arm.num_diverged} of {len(arm.runs)} diverged")
    text = "diverged" if arm.median is None else formats.metric(summary.info, arm.median)
    return {"text": text, "detail": "; ".join(details), "shade": shade[arm.median]}


def _shades(summary: WorkloadSummary) -> dict[float | None, int]:
    """A shade for each median: the share of medians of this workload that are no better than it."""
    rank = ranking(summary.info)
    medians = [arm.median for arm in summary.arms.values()]
    return {m: (NUM_SHADES * sum(rank(o) < rank(m) for o in medians)) // len(medians) for m in medians}


def costs(summaries: list[WorkloadSummary]) -> Context:
    """What a training step costs."""
    rows = [
        [
            s.info.title,
            b.title,
            formats.ratio(s.costs[b.name].evaluations_per_step),
            formats.significant(s.costs[b.name].milliseconds),
            formats.ratio(s.costs[b.name].time_ratio),
        ]
        for s in summaries
        for b in s.baselines
    ]
    return {
        "columns": [
            "workload",
            "optimizer",
            "gradient evaluations a step",
            "milliseconds a step",
            "time over bare",
        ],
        "rows": rows,
    }


def all_runs(runs: list[StoredRun], summaries: list[WorkloadSummary]) -> Context:
    """Every run with what it came to."""
    infos = {summary.info.name: summary.info for summary in summaries}
    rows = []
    for run in sorted(
        runs, key=lambda run: (run.config.workload, run.config.optimizer, run.config.lr, run.config.seed)
    ):
        info = infos[run.config.workload]
        rows.append(
            [
                info.title,
                run.config.optimizer,
                formats.learning_rate(run.config.lr),
                str(run.config.seed),
                run.result.outcome.value,
                formats.metric(info, final_metric(run, info)),
                formats.metric(info, run.result.best),
                formats.count(run.result.num_steps),
                formats.count(run.result.gradient_evaluations),
                run.config.fingerprint(),
            ]
        )
    columns = [
        "workload",
        "optimizer",
        "initial lr",
        "seed",
        "outcome",
        "final",
        "best",
        "steps",
        "gradient evaluations",
        "fingerprint",
    ]
    return {"columns": columns, "rows": rows}


def origins(runs: list[StoredRun]) -> list[list[str]]:
    """Where the numbers come from; several values where the runs differ."""
    labels = {
        "commit": "commit",
        "has_uncommitted_changes": "uncommitted changes",
        "processor": "processor",
        "num_cores": "cores",
        "num_threads": "threads a run",
        "system": "system",
    }
    rows = [[label, _distinct(run.provenance[key] for run in runs)] for key, label in labels.items()]
    packages = runs[0].provenance["versions"]
    rows += [[package, _distinct(run.provenance["versions"].get(package) for run in runs)] for package in packages]
    times = sorted(run.provenance["time"] for run in runs)
    return [*rows, ["first run", times[0]], ["last run", times[-1]]]


def _distinct(values: Any) -> str:
    return ", ".join(sorted({str(value) for value in values}))
