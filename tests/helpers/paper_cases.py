"""Small studies that nobody trained: every number in them is one that a test can work out by hand."""

import dcao
from dcao_lab.config import RunConfig
from dcao_lab.runs.result import Outcome, RunResult, StoredRun
from dcao_lab.runs.training import EvaluationPoint
from dcao_lab.study import Arm, PlannedRun, StudyConfig, StudyResult, Task, Variation

HOSTILE_ARM = "a_b&c%$#{}~^\\ $x_{1}$"
SEEDS = (0, 1, 2, 3, 4)
TASKS = (
    Task(workload="digits_mlp", num_steps=10, eval_every=5),
    Task(workload="pydoc_gpt", num_steps=10, eval_every=5),
)
ARMS = (
    Arm(name="adamw", title="AdamW", optimizer="adamw"),
    Arm(name="dcao", title=HOSTILE_ARM, optimizer="dcao:adamw", reference="adamw"),
    Arm(name="sgd", title="SGD", optimizer="sgd"),
)
METRICS = {"digits_mlp": "accuracy", "pydoc_gpt": "perplexity"}
FINALS = {  # by seed; None diverged
    ("digits_mlp", "adamw"): (0.91, 0.91, 0.92, 0.93, 0.93),
    ("digits_mlp", "dcao"): (0.93, 0.93, 0.94, 0.95, 0.95),  # two points more each
    ("digits_mlp", "sgd"): (None,) * 5,
    ("pydoc_gpt", "adamw"): (20.0, 20.0, 22.0, 24.0, 24.0),
    ("pydoc_gpt", "dcao"): (18.0, 18.0, 20.0, 22.0, 22.0),  # two less each
    ("pydoc_gpt", "sgd"): (30.0, 30.0, 32.0, 34.0, 34.0),
}
COSTS = {"adamw": (10.0, 0.010), "dcao": (12.0, 0.020), "sgd": (10.0, 0.010)}  # evaluations, seconds of 10 steps


def stored(task, arm, final, *, seed=0, lr=1e-3, settings=(), probes=(), solution=None):
    """A run that ended at ``final``; None diverged."""
    evaluations, seconds = COSTS[arm.name]
    metric = METRICS[task.workload]
    end = float("nan") if final is None else final
    shares = (0.0, 0.5, 1.0)
    points = tuple(
        EvaluationPoint(
            step=round(10 * share),
            epoch=share,
            gradient_evaluations=evaluations * share,
            lr=lr,
            train_loss=None if share == 0.0 else (float("nan") if final is None else 1.0 / (1.0 + share)),
            metrics={f"{split}_{name}": end if name == metric else 1.0 - 0.5 * share
                     for split in ("validation", "test") for name in ("loss", metric)},
            seconds=seconds * share,
        )
        for share in shares
    )  # fmt: skip
    result = RunResult(
        outcome=Outcome.DIVERGED if final is None else Outcome.FINISHED,
        num_steps=10,
        gradient_evaluations=evaluations,
        probe_evaluations=evaluations - 10.0,
        final={f"{split}_{name}": final if name == metric else 0.5
               for split in ("train", "validation", "test") for name in ("loss", metric)},
        best=final,
        target_step=None if final is None else 5,
        target_evaluations=None if final is None else evaluations / 2,
        generalisation_gap=0.1 + 0.01 * seed,
        solution=solution,
        held_copies=2.5,
    )  # fmt: skip
    config = RunConfig(
        workload=task.workload,
        optimizer=arm.optimizer,
        lr=lr,
        seed=seed,
        num_steps=task.num_steps,
        eval_every=task.eval_every,
        settings=settings,
    )
    return StoredRun(config=config, result=result, points=points, probes=tuple(probes), provenance={})


def study(**changes):
    settings = {
        "name": "headline", "size": "demo", "title": "A study", "question": "Which?",
        "tasks": TASKS, "arms": ARMS, "seeds": SEEDS,
    }  # fmt: skip
    return StudyConfig(**{**settings, **changes})


def planned(phase, task, arm, run, variation=None):
    return PlannedRun(phase=phase, task=task, arm=arm, variation=variation, config=run.config), run


def finals():
    return [
        planned("final", task, arm, stored(task, arm, final, seed=seed))
        for task in TASKS
        for arm in ARMS
        for seed, final in zip(SEEDS, FINALS[task.workload, arm.name], strict=True)
    ]


def plain_result():
    """The seeds alone: no variations, no trials, nothing watched, nothing measured."""
    return StudyResult(study=study(), runs=tuple(finals()), missing=())


def record(step, s, largest):
    hyperparameters = dcao.Hyperparameters(lr=0.1, momentum=0.9, weight_decay=0.0)
    return dcao.StepRecord(
        step=step,
        loss=1.0,
        estimate=dcao.CurvatureEstimate(
            step=step,
            measure="batch",
            s=s,
            stability={"batch": s, "preconditioned": 0.5},
            ritz_values=(largest, largest / 2),
        ),
        observation=None,
        decision=dcao.Decision(hyperparameters=hyperparameters, reason="none"),
        before=hyperparameters,
        after=hyperparameters,
        cost=1.0,
        total_cost=1.0,
        seconds=0.0,
    )


def full_result():
    """Everything that a study can have: variations (one diverged), trials, watched runs and measured solutions."""
    task, (adamw, wrapped, _) = TASKS[0], ARMS
    variations = (Variation(axis="lr", value=1e-3), Variation(axis="lr", value=1e-1))
    runs = finals()
    for arm, ends in ((adamw, (0.9, None)), (wrapped, (0.9, 0.92))):
        runs += [
            planned("final", task, arm, stored(task, arm, end, seed=seed, lr=v.value), v)
            for v, end in zip(variations, ends, strict=True)
            for seed in SEEDS
        ]
        runs.append(planned("trial", task, arm, stored(task, arm, 0.8, seed=100, lr=0.025)))
    probes = [record(step, 0.5 + 0.1 * step, 10.0 + step) for step in range(12)]
    runs.append(planned("watched", task, wrapped, stored(task, wrapped, 0.9, probes=probes)))
    solution = {
        "sharpness": 4.0, "preconditioned_sharpness": 40.0, "trace": 100.0,
        "density": {"nodes": [0.0, 4.0], "weights": [0.75, 0.25]},
    }  # fmt: skip
    runs = [
        (plan, stored(plan.task, plan.arm, 0.9, seed=plan.config.seed, solution=solution))
        if plan.phase == "final" and plan.arm is wrapped and plan.task is task and plan.variation is None
        else (plan, run)
        for plan, run in runs
    ]
    return StudyResult(study=study(variations=variations), runs=tuple(runs), missing=())
