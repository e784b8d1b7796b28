"""A cosine run at the lr that find_lr finds, and at what learning-rate finders read from a loss-range test.

Run: python benchmarks/find_lr.py [WORKLOAD ...]. For each workload of the lab with embedded data, AdamW and SGD: a
sweep of lrs, constant and with warmup and cosine, then one run with warmup and cosine at each lr found. A cell is won
within 1 point (or 2 % of a loss) of the best constant lr, and within 2 points (4 %) of the best cosine. Prints a table
and writes benchmarks/results/find_lr.json. All workloads take hours; one MLP takes minutes.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch

import dcao
from dcao_lab.baselines import BuildRequest, get_baseline
from dcao_lab.workloads import WORKLOADS, StartRequest, get_workload
from recorded import write_results

SWEEPS = {
    "adamw": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "sgd": (3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0),
}
WARMUP = 0.05
SEED = 0
NUM_LRS = 100  # steps of the range test
SMOOTHING = 0.98  # of its losses, as in fastai and Lightning
FASTAI, LIGHTNING = (1e-7, 10.0), (1e-8, 1.0)  # the ranges that are their defaults


# --- training


def started(name: str, optimizer: str, lr: float) -> tuple[Any, torch.optim.Optimizer]:
    """A fresh problem and its bare optimizer."""
    problem = get_workload(name).start(StartRequest(seed=SEED))
    return problem, get_baseline(optimizer).build(problem, BuildRequest(lr=lr, seed=SEED))


def trained(name: str, optimizer: str, lr: float, *, cosine: bool) -> float:
    """The test metric of one run; nan if it diverged."""
    info = get_workload(name).info
    problem, bare = started(name, optimizer, lr)
    warm = max(1, round(WARMUP * info.num_steps))
    for step in range(info.num_steps):
        share = 0.5 * (1.0 + math.cos(math.pi * max(step - warm, 0) / max(info.num_steps - warm, 1)))
        for group in bare.param_groups:
            group["lr"] = lr * min((step + 1) / warm, share if cosine else 1.0)
        loss = step_of(problem, bare)
        if not math.isfinite(loss):
            return math.nan
    problem.model.eval()
    with torch.no_grad():
        return problem.evaluate("test")[info.metric]


def step_of(problem: Any, bare: torch.optim.Optimizer) -> float:
    """One step; its loss."""
    bare.zero_grad()
    loss = problem.loss(next(problem.batches))
    loss.backward()
    bare.step()
    return float(loss.detach())


# --- learning-rate finders


def range_test(name: str, optimizer: str, low: float, high: float) -> tuple[list[float], list[float]]:
    """Learning rates and smoothed losses of a rise from ``low`` to ``high``, up to four times the lowest loss."""
    problem, bare = started(name, optimizer, low)
    lrs: list[float] = []
    losses: list[float] = []
    average = 0.0
    for step in range(NUM_LRS + 1):
        lr = low * (high / low) ** (step / NUM_LRS)
        for group in bare.param_groups:
            group["lr"] = lr
        average = SMOOTHING * average + (1.0 - SMOOTHING) * step_of(problem, bare)
        smooth = average / (1.0 - SMOOTHING ** (step + 1))
        if not math.isfinite(smooth):
            break
        lrs.append(lr)
        losses.append(smooth)
        if smooth > 4.0 * min(losses):
            break
    return lrs, losses


def of_fastai(lrs: list[float], losses: list[float]) -> dict[str, float]:
    """``valley``, ``steep`` and ``minimum``/10 as fastai 2 defines them (fastai/callback/schedule.py)."""
    lrs, losses = lrs[NUM_LRS // 10 : -5], losses[NUM_LRS // 10 : -5]
    slopes = [
        (after - before) / math.log(right / left)
        for before, after, left, right in zip(losses, losses[1:], lrs, lrs[1:], strict=False)
    ]
    lowest = min(range(len(losses)), key=losses.__getitem__)
    return {
        "valley": lrs[valley(losses)],
        "steep": lrs[min(range(len(slopes)), key=slopes.__getitem__)],
        "minimum/10": lrs[lowest] / 10.0,
    }


def valley(losses: list[float]) -> int:
    """Half of the way into the longest run of falling losses, which need not be neighbours."""
    lengths, start, end = [1] * len(losses), 0, 0
    for right in range(1, len(losses)):
        for left in range(right):
            if losses[right] < losses[left] and lengths[right] < lengths[left] + 1:
                lengths[right] = lengths[left] + 1
            if lengths[end] < lengths[right]:
                end, start = right, right - lengths[right]
    third = (end - start) / 3.0
    return start + int(third) + int(third / 2.0)


def of_lightning(lrs: list[float], losses: list[float]) -> dict[str, float]:
    """The steepest point by lr (lightning/pytorch/tuner/lr_finder.py, ``suggestion``), and the same by log lr."""
    lrs, losses = lrs[10:-1], losses[10:-1]
    values = torch.tensor(losses)
    by_lr = torch.gradient(values, spacing=[torch.tensor(lrs)])[0]
    by_log = torch.gradient(values)[0]  # the rise is exponential
    return {"lightning": lrs[int(by_lr.argmin())], "lightning, log lr": lrs[int(by_log.argmin())]}


def suggestions(name: str, optimizer: str) -> dict[str, float | None]:
    """The lr that each finder suggests."""
    problem, bare = started(name, optimizer, 1e-3)
    found = dcao.find_lr(bare, problem.batches, problem.loss)
    others = of_fastai(*range_test(name, optimizer, *FASTAI)) | of_lightning(*range_test(name, optimizer, *LIGHTNING))
    return {"find_lr": found.lr, **others}


# --- cells


def goals(name: str, optimizer: str) -> list[float]:
    """What the metric has to reach: against the best constant lr, and against the best cosine."""
    info = get_workload(name).info
    least = []
    for cosine, points, percent in ((False, 0.01, 2.0), (True, 0.02, 4.0)):
        run = partial(trained, name, optimizer, cosine=cosine)
        values = [value for value in map(run, SWEEPS[optimizer]) if not math.isnan(value)]
        best = max(values) if info.higher_is_better else min(values)
        least.append(best - points if info.higher_is_better else best * (1.0 + percent / 100.0))
    return least


def row(name: str, optimizer: str) -> dict[str, Any]:
    """The goals, and for each finder its lr, what came of it, and how many cells that wins."""
    info, wanted = get_workload(name).info, goals(name, optimizer)
    finders = {}
    for finder, lr in suggestions(name, optimizer).items():
        value = math.nan if lr is None else trained(name, optimizer, lr, cosine=True)
        won = sum(value >= goal if info.higher_is_better else value <= goal for goal in wanted)
        finders[finder] = {"lr": lr, "metric": None if math.isnan(value) else value, "cells": won}
    return {"workload": name, "optimizer": optimizer, "goals": wanted, "finders": finders}


def rows(names: Iterable[str]) -> list[dict[str, Any]]:
    """One a workload and optimizer, printed as they come."""
    table = []
    for name in names:
        for optimizer in SWEEPS:
            table.append(row(name, optimizer))
            cells = "  ".join(
                f"{finder} {each['lr'] or math.nan:.2g}: {each['cells']}"
                for finder, each in table[-1]["finders"].items()
            )
            print(f"{name:16s} {optimizer:6s} {cells}", flush=True)
    return table


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    embedded = [name for name, workload in WORKLOADS.items() if workload.info.needs is None]
    table = rows(sys.argv[1:] or embedded)
    for optimizer in SWEEPS:
        of_one = [each["finders"] for each in table if each["optimizer"] == optimizer]
        for finder in of_one[0]:
            print(f"{optimizer}: {finder} {sum(each[finder]['cells'] for each in of_one)} of {2 * len(of_one)} cells")
    write_results("find_lr", rows=table)


if __name__ == "__main__":
    main()
