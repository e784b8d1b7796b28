"""What learning-rate schedulers of torch make of DCAO, from three given lrs, beside a sweep of the bare optimizer.

Run: python benchmarks/schedulers.py [SRC] (SRC is the src folder of another checkout). Prints a line for each workload,
optimizer, scheduler and lr: medians of three seeds of the metric on validation data, and of the last 20 training
losses. About 20 minutes on one core; writes results/schedulers.json unless SRC is given.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Iterator

import torch

if len(sys.argv) > 1:
    sys.path.insert(0, sys.argv[1])

from torch.optim import Optimizer, lr_scheduler

import dcao
from dcao_lab.workloads import WORKLOADS, StartRequest
from recorded import write_results

RUNS = (("digits_mlp", 300), ("digits_resnet", 200), ("pydoc_gpt", 200))
SEEDS = (0, 1, 2)
GIVEN = (1e-6, 1e-3, 10.0)
SWEPT = {"adamw": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), "sgd": (1e-2, 3e-2, 1e-1, 3e-1, 1.0)}


def linear(optimizer: Optimizer, num_steps: int) -> lr_scheduler.LRScheduler:
    """The default of the Hugging Face Trainer, with a warmup of 5 %."""
    warmup = round(0.05 * num_steps)
    return lr_scheduler.LambdaLR(optimizer, lambda t: min(t / warmup, (num_steps - t) / (num_steps - warmup)))


def cosine(optimizer: Optimizer, num_steps: int) -> lr_scheduler.LRScheduler:
    """Warmup over 5 %, then half a cosine."""
    warmup = round(0.05 * num_steps)
    fall = lambda t: 0.5 * (1.0 + math.cos(math.pi * (t - warmup) / (num_steps - warmup)))  # noqa: E731
    return lr_scheduler.LambdaLR(optimizer, lambda t: t / warmup if t < warmup else fall(t))


def one_cycle(optimizer: Optimizer, num_steps: int) -> lr_scheduler.LRScheduler:
    """Torch's, up to the lr that was given."""
    largest = [float(group["lr"]) for group in optimizer.param_groups]
    return lr_scheduler.OneCycleLR(optimizer, largest, total_steps=num_steps + 1, cycle_momentum=False)


SCHEDULERS: dict[str, Callable[[Optimizer, int], lr_scheduler.LRScheduler]] = {
    "warmup, linear": linear,
    "warmup, cosine": cosine,
    "one cycle": one_cycle,
}


def train(
    workload: str, num_steps: int, kind: str, lr: float, scheduler: str, seed: int, *, wraps: bool
) -> list[float]:
    """The metric on validation data after a run, and the mean of its last 20 training losses."""
    problem = WORKLOADS[workload].start(StartRequest(seed=seed))
    params = problem.model.parameters()
    base = torch.optim.AdamW(params, lr=lr) if kind == "adamw" else torch.optim.SGD(params, lr=lr, momentum=0.9)
    total_steps = None if scheduler else num_steps
    optimizer = dcao.DCAO(base, total_steps=total_steps) if wraps else base
    course, losses = SCHEDULERS[scheduler](optimizer, num_steps) if scheduler else None, []
    for _ in range(num_steps):
        batch = next(problem.batches)
        if isinstance(optimizer, dcao.DCAO):
            loss = optimizer.minimize(lambda batch=batch: problem.loss(batch))
        else:
            optimizer.zero_grad()
            loss = problem.loss(batch)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
        if course is not None:
            course.step()
    problem.model.eval()
    metric = problem.evaluate("validation")[WORKLOADS[workload].info.metric]
    return [metric, statistics.fmean(losses[-20:])]


def cells() -> Iterator[tuple[str, int, str, str, str, float]]:
    """Workload, steps, arm, optimizer, scheduler and lr of each line."""
    for workload, num_steps in RUNS:
        for kind, lrs in SWEPT.items():
            yield workload, num_steps, "dcao", kind, "", GIVEN[1]
            for scheduler in SCHEDULERS:
                for lr in GIVEN:
                    yield workload, num_steps, "dcao", kind, scheduler, lr
                for lr in lrs if len(sys.argv) == 1 else ():
                    yield workload, num_steps, "bare", kind, scheduler, lr


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for workload, num_steps, arm, kind, scheduler, lr in cells():
        runs = [train(workload, num_steps, kind, lr, scheduler, seed, wraps=arm == "dcao") for seed in SEEDS]
        medians = [statistics.median(values) for values in zip(*runs, strict=True)]
        finite = [value if math.isfinite(value) else None for value in medians]  # None: lost
        rows.append([workload, arm, kind, scheduler or "none, total_steps", lr, *finite])
        print(*rows[-1], flush=True)
    if len(sys.argv) == 1:
        write_results("schedulers", columns="workload arm optimizer scheduler lr metric last_losses", rows=rows)


if __name__ == "__main__":
    main()
