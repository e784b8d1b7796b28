"""One run of a task: bare, with a peer, or with DCAO, on the same budget of gradient evaluations."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import dcao
from dcao import MemoryRecorder, StepRecord, policies, schedules
from problems import Spec, Task
from tasks import TASKS

PEERS = ("Prodigy", "ScheduleFreeAdamW", "DAdaptAdam")
GIVEN_LR = {"adamw": 1e-3, "sgd": 0.1}


def run(job: dict[str, Any], recorder: MemoryRecorder | None = None) -> dict[str, Any]:
    """The job and its results; an exception is one of them."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    spec, started = TASKS[job["task"]], time.perf_counter()
    task = start(spec, job["seed"])
    result: dict[str, Any] = {}
    try:
        if job["arm"].startswith("dcao"):
            result = train_dcao(task, spec, job["arm"], job["lr"], job["variant"], recorder or MemoryRecorder())
        else:
            result = train_bare(task, spec, job["arm"], job["lr"])
        with torch.no_grad():
            metrics = task.evaluate(task.model.eval())
        result["metric"], result["metrics"] = next(iter(metrics.values())), metrics
    except Exception as error:
        result["error"] = f"{type(error).__name__}: {error}"
    return {**job, **result, "seconds": round(time.perf_counter() - started, 2)}


def start(spec: Spec, seed: int) -> Task:
    """The task in training mode, with the seeds of its weights and of its training set."""
    torch.manual_seed(1000 + seed)
    task = spec.build(seed)
    task.params = [p for p in task.model.parameters() if p.requires_grad]
    task.model.train()
    torch.manual_seed(2000 + seed)
    return task


def base_optimizer(
    base: str, params: list[nn.Parameter], lr: float, spec: Spec, **options: Any
) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum 0.9."""
    decay = {} if spec.weight_decay is None else {"weight_decay": spec.weight_decay}
    if base == "adamw":
        return torch.optim.AdamW(params, lr=lr, **decay, **options)
    return torch.optim.SGD(params, lr=lr, momentum=0.9, **options)


def affordable_steps(spec: Spec) -> int:
    """Steps that fit in the budget with their probes: one evaluation each from ``minimize``, two from ``probe``."""
    steps, price = spec.budget, 2 if spec.probes else 1
    while steps + price * sum(schedules.Thinning()(step, 0.0) for step in range(steps)) > spec.budget:
        steps -= 1
    return steps


# --- without DCAO


def train_bare(task: Task, spec: Spec, arm: str, lr: float) -> dict[str, Any]:
    """A constant or a cosine lr, or a peer at its defaults."""
    steps, schedule = spec.budget, None
    if arm in PEERS:
        optimizer, schedule = peer(arm, task.params, spec, steps)
    else:
        base, shape = arm.split("-")
        optimizer = base_optimizer(base, task.params, lr, spec, foreach=True)
        schedule = warm_cosine(optimizer, steps) if shape == "cos" else None
    if hasattr(optimizer, "train"):
        optimizer.train()
    loss = torch.tensor(math.nan)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = task.loss(task.batch())
        if not math.isfinite(loss.item()):
            return {"diverged": True, "train_loss": loss.item()}
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    return {"train_loss": loss.item(), "evaluations": steps}


def peer(name: str, params: list[nn.Parameter], spec: Spec, steps: int) -> tuple[Any, Any]:
    """The optimizer and its scheduler; Prodigy's authors recommend cosine."""
    import pytorch_optimizer

    decay = {} if spec.weight_decay is None else {"weight_decay": spec.weight_decay}
    optimizer = getattr(pytorch_optimizer, name)(params, **decay)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if name == "Prodigy" else None
    return optimizer, cosine


def warm_cosine(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Warmup over 5 % of the run, then cosine to 0."""
    warm = max(1, round(0.05 * steps))

    def factor(step: int) -> float:
        share = max(step - warm, 0) / max(steps - warm, 1)
        return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * share)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


# --- with DCAO


def train_dcao(task: Task, spec: Spec, arm: str, lr: float, variant: str, recorder: MemoryRecorder) -> dict[str, Any]:
    """The default policy, or with the constants of ``variant``."""
    base, known = arm.split("-")[1], not arm.endswith("-open")
    steps = affordable_steps(spec)
    total = steps if known else None
    constants = constants_of(variant)
    policy = policies.Ceiling(**{"total_steps": total, **constants}) if constants else None
    optimizer = dcao.DCAO(
        base_optimizer(base, task.params, lr, spec),
        total_steps=None if policy else total,
        policy=policy,
        recorder=recorder,
    )
    average = None
    if not known:
        average = AveragedModel(task.model, multi_avg_fn=dcao.polynomial_average(), use_buffers=True)
    is_due, restored, losses, lrs = schedules.usual(total), 0, [], []
    for step in range(steps):
        batch = task.batch()
        probes = spec.probes and is_due(step, optimizer.probe_cost + 1)
        losses.append(step_dcao(optimizer, task, batch, by_hand=spec.probes, probes=probes))
        lrs.append(optimizer.param_groups[0]["lr"])
        if average is not None:
            if optimizer.num_restored > restored:
                restored = optimizer.num_restored
                average.n_averaged.zero_()
            average.update_parameters(task.model)
    result = about(optimizer, recorder, losses, lrs)
    if average is not None:
        with torch.no_grad():
            result["averaged"] = task.evaluate(average.module.eval())
    return result


def constants_of(variant: str) -> dict[str, float | None]:
    """From ``name=value,name=value``."""
    pairs = [pair.split("=") for pair in variant.split(",") if pair]
    return {name: None if value == "None" else float(value) for name, value in pairs}


def step_dcao(optimizer: dcao.DCAO, task: Task, batch: Any, *, by_hand: bool, probes: bool) -> float:
    """One step with ``minimize()``, or by hand with ``probe()`` before it; returns the loss."""
    if not by_hand:
        return float(optimizer.minimize(lambda: task.loss(batch)))
    if probes:
        optimizer.probe(lambda: task.loss(batch))
    optimizer.zero_grad()
    loss = task.loss(batch)
    loss.backward()
    optimizer.step()
    return float(loss)


def about(optimizer: dcao.DCAO, recorder: MemoryRecorder, losses: list[float], lrs: list[float]) -> dict[str, Any]:
    """What a run of DCAO tells about itself."""
    estimate = optimizer.last_estimate
    records = [record for record in recorder.records if record.estimate is not None]
    probed_lrs = [record.after.lr for record in records]
    arrivals = [record.step for record in records if record.decision.reason.startswith("arrived")]
    return {
        "train_loss": losses[-1],
        "evaluations": len(losses) + optimizer.probe_cost,
        "steps": len(losses),
        "final_lr": lrs[-1],
        "start_lr": lrs[0],
        "max_lr": max(probed_lrs),
        "lr_mid": probed_lrs[len(probed_lrs) // 2],
        "arrived": arrivals[0] if arrivals else None,
        "limit": binding(records),
        "s": None if estimate is None else estimate.s,
        "skipped": optimizer.num_skipped,
        "restored": optimizer.num_restored,
        "diverged": not all(map(math.isfinite, losses[-10:])),
    }


def binding(records: list[StepRecord]) -> dict[str, int]:
    """Of the probes that had both numbers: how often s, l, or neither (lr under both) was what held lr."""
    counts = {"s": 0, "l": 0, "none": 0, "unmeasured": 0}
    for record in records:
        s, length = record.observation.s, record.observation.relative_step
        if s is None or length is None:
            counts["unmeasured"] += 1
            continue
        by_s, by_l = (8 / s if s > 0 else math.inf), 0.1 / length
        counts["none" if min(by_s, by_l) > 1.25 else "s" if by_s < by_l else "l"] += 1
    return counts
