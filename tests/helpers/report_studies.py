"""Small studies for the tests of the report: made up with known numbers, or run for real."""

import dataclasses

from dcao_lab.config import RunConfig
from dcao_lab.runs.result import Outcome, RunResult, StoredRun, Timing
from dcao_lab.runs.runner import load, run
from dcao_lab.runs.training import EvaluationPoint
from dcao_lab.study import Arm, PlannedRun, StudyConfig, StudyResult, Task, Tuning, Watching
from dcao_lab.workloads import WORKLOADS
from helpers.lab_runs import HOSTILE

ADAMW = Arm(name="adamw", title="AdamW", optimizer="adamw")
SGD = Arm(name="sgd", title="SGD", optimizer="sgd")
DCAO_ADAMW = Arm(name="dcao:adamw", title="DCAO(AdamW)", optimizer="dcao:adamw", reference="adamw")


def task(workload="digits_mlp", num_steps=6):
    return Task(workload=workload, num_steps=num_steps, eval_every=3)


def study(*arms, tasks=(), seeds=(0, 1, 2), **changes):
    return StudyConfig(
        name="headline",
        size="demo",
        title="A study",
        question="Which is better?",
        tasks=tasks or (task(),),
        arms=arms,
        seeds=seeds,
        **changes,
    )


def planned(arm, seed, *, phase="final", variation=None, on=None, **changes):
    on = on or task()
    settings = {
        "workload": on.workload,
        "optimizer": arm.optimizer,
        "lr": 1e-3,
        "seed": seed,
        "num_steps": on.num_steps,
        "eval_every": on.eval_every,
    }
    config = RunConfig(**{**settings, **changes})
    return PlannedRun(phase=phase, task=on, arm=arm, variation=variation, config=config)


def stored(config, value, *, evaluations=6.0, seconds=0.06, target=None, untrained=0.1, **results):
    """A run that ended with this value of its metric, or diverged where it is None."""
    metric = WORKLOADS[config.workload].info.metric
    result = RunResult(
        outcome=Outcome.DIVERGED if value is None else Outcome.FINISHED,
        num_steps=6,
        gradient_evaluations=evaluations,
        probe_evaluations=evaluations - 6,
        final={f"{split}_{name}": value for split in ("test", "validation") for name in (metric, "loss")},
        best=value,
        **{"target_evaluations": target, "oscillation": 0.1, "largest_rise": 0.2, **results},
    )
    points = [
        point(0, untrained, metric, evaluations=0.0, seconds=0.0),
        point(6, value, metric, evaluations=evaluations, seconds=seconds),
    ]
    provenance = {"commit": "abc", "time": "2026-01-01T00:00:00", "versions": {"python": "3.10"}}
    return StoredRun(
        config=config,
        result=result,
        points=tuple(points),
        probes=(),
        provenance=provenance,
        timing=Timing(peak_bytes=2_000_000),
    )


def point(step, value, metric, *, evaluations, seconds):
    return EvaluationPoint(
        step=step,
        epoch=step / 2,
        gradient_evaluations=evaluations,
        lr=1e-3,
        train_loss=None if step == 0 else 1.0,
        metrics={f"{split}_{name}": value for split in ("test", "validation") for name in (metric, "loss")},
        seconds=seconds,
    )


def finals(arm, values, **changes):
    """One made-up run that counts for each value, its seed the place in the list."""
    place = {key: changes.pop(key) for key in ("variation", "on", "phase", "lr", "batch_size") if key in changes}
    plans = [planned(arm, seed, **place) for seed in range(len(values))]
    return [(plan, stored(plan.config, value, **changes)) for plan, value in zip(plans, values, strict=True)]


def result_of(config, *groups):
    return StudyResult(study=config, runs=tuple(pair for group in groups for pair in group), missing=())


def real_study(store):
    """AdamW and SGD, and DCAO around AdamW, on two workloads for a few steps: tuned, watched, solutions measured."""
    arms = (ADAMW, SGD, DCAO_ADAMW)
    tasks = (task("digits_mlp", 12), task("mnist1d_mlp", 12))
    config = study(
        *arms, tasks=tasks, seeds=(0, 1), tuning=Tuning(num_trials=2), watching=Watching(), measure_solution=True
    )
    plans = []
    for on in tasks:
        for arm in arms:
            plans += [planned(arm, 100, phase="trial", on=on, lr=lr) for lr in (1e-3, 1e-1)]
            plans += [
                planned(arm, seed, on=on, lr=1e-2, measure_solution=(on, seed) == (tasks[0], 0)) for seed in (0, 1)
            ]
            plans.append(planned(arm, 0, phase="watched", on=on, lr=1e-2, watch=True, spectrum_every=6))
    for plan in plans:
        run(plan.config, store)
    missing = planned(SGD, 7)
    return StudyResult(study=config, runs=tuple((plan, load(plan.config, store)) for plan in plans), missing=(missing,))


def with_hostile_names(result, monkeypatch):
    """The study with scripts for names wherever a person may choose one."""
    real = WORKLOADS["digits_mlp"]
    info = dataclasses.replace(real.info, title=HOSTILE, summary=HOSTILE)
    monkeypatch.setitem(WORKLOADS, "digits_mlp", dataclasses.replace(real, info=info))
    renamed = {arm.name: dataclasses.replace(arm, title=HOSTILE + arm.name, group=HOSTILE) for arm in result.study.arms}
    runs = tuple(
        (
            dataclasses.replace(plan, arm=renamed[plan.arm.name]),
            dataclasses.replace(stored, provenance={**stored.provenance, "processor": HOSTILE}),
        )
        for plan, stored in result.runs
    )
    config = dataclasses.replace(result.study, title=HOSTILE, question=HOSTILE, arms=tuple(renamed.values()))
    return StudyResult(study=config, runs=runs, missing=result.missing)
