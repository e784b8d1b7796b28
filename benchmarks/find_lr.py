"""A cosine run at the lr that find_lr finds, and at what learning-rate finders read from a loss-range test.

Run: python benchmarks/find_lr.py [WORKLOAD ...]. For each workload of the study ``transfer``, AdamW and SGD, and three
seeds: the lr that each finder suggests, and a run with warmup and cosine at it. Their median is held against the best
lrs of the study's sweeps (results/transfer-embedded), by its goal: 1 point (or 2 % of a loss) against the best constant
lr, 2 points (4 %) against the best cosine. Prints the cells within the goal and writes benchmarks/results/find_lr.json.
All workloads take 15 minutes of two cores; the runs are kept in studies/runs, and what is there is not run again.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch

import dcao
from dcao_lab.baselines import BuildRequest, get_baseline
from dcao_lab.config import RunConfig
from dcao_lab.report.analysis.results import results
from dcao_lab.report.analysis.untuned import SCHEDULED, is_within
from dcao_lab.report.analysis.view import Place, view
from dcao_lab.report.parquet import read_tables
from dcao_lab.runs.runner import run, stored_result
from dcao_lab.runs.store import RunState, RunStore
from dcao_lab.study.folders import StudyFolder
from dcao_lab.workloads import StartRequest, get_workload
from recorded import write_results

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "results" / "transfer-embedded"
BASES = ("adamw", "sgd")
SEEDS = (0, 1, 2)
NUM_LRS = 100  # steps of the range test
SMOOTHING = 0.98  # of its losses, as in fastai and Lightning
FASTAI, LIGHTNING = (1e-7, 10.0), (1e-8, 1.0)  # the ranges that are their defaults


# --- training


def started(name: str, optimizer: str, lr: float, seed: int) -> tuple[Any, torch.optim.Optimizer]:
    """A fresh problem and its bare optimizer."""
    problem = get_workload(name).start(StartRequest(seed=seed))
    return problem, get_baseline(optimizer).build(problem, BuildRequest(lr=lr, seed=seed))


def trained(name: str, optimizer: str, lr: float | None, seed: int, num_steps: int) -> float | None:
    """The test metric of one run with warmup and cosine; None without an lr, and if it diverged."""
    if lr is None:
        return None
    store = RunStore(ROOT / "studies" / "runs")
    config = RunConfig(
        workload=name,
        optimizer=optimizer,
        lr=lr,
        seed=seed,
        num_steps=num_steps,
        eval_every=num_steps,
        schedule="cosine",
        budget=float(num_steps),
    )
    if store.state(config) is RunState.FINISHED:
        result = stored_result(config, store)
    else:
        with store.claim(config) or nullcontext():  # else a study that starts meanwhile would sweep it away
            result = run(config, store)
    return result.final.get(f"test_{get_workload(name).info.metric}")


def step_of(problem: Any, bare: torch.optim.Optimizer) -> float:
    """One step; its loss."""
    bare.zero_grad()
    loss = problem.loss(next(problem.batches))
    loss.backward()
    bare.step()
    return float(loss.detach())


# --- learning-rate finders


def range_test(name: str, optimizer: str, seed: int, low: float, high: float) -> tuple[list[float], list[float]]:
    """Learning rates and smoothed losses of a rise from ``low`` to ``high``, up to four times the lowest loss."""
    problem, bare = started(name, optimizer, low, seed)
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


def suggestions(name: str, optimizer: str, seed: int) -> dict[str, float | None]:
    """The lr that each finder suggests."""
    problem, bare = started(name, optimizer, 1e-3, seed)
    found = dcao.find_lr(bare, problem.batches, problem.loss)
    others = of_fastai(*range_test(name, optimizer, seed, *FASTAI))
    others |= of_lightning(*range_test(name, optimizer, seed, *LIGHTNING))
    return {"find_lr": found.lr, **others}


# --- cells


def row(name: str, optimizer: str, num_steps: int, bests: Sequence[float | None]) -> dict[str, Any]:
    """For each finder its lrs, what came of them, and how many cells the median wins."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    info = get_workload(name).info
    lost = -math.inf if info.higher_is_better else math.inf
    lrs = [suggestions(name, optimizer, seed) for seed in SEEDS]
    finders = {}
    for finder in lrs[0]:
        found = [each[finder] for each in lrs]
        values = [trained(name, optimizer, lr, seed, num_steps) for seed, lr in zip(SEEDS, found, strict=True)]
        middle: float | None = median(lost if value is None else value for value in values)
        middle = None if middle == lost else middle
        won = sum(is_within(info, best, middle, factor) for best, factor in zip(bests, (1, SCHEDULED), strict=True))
        finders[finder] = {"lrs": found, "metrics": values, "median": middle, "cells": won}
    return {"workload": name, "optimizer": optimizer, "bests": list(bests), "finders": finders}


def jobs(names: Sequence[str]) -> Iterable[tuple[str, str, int, tuple[float | None, ...]]]:
    """Workload, optimizer, steps, and the medians at the sweeps' best lrs, constant and cosine."""
    seen = view(read_tables(StudyFolder(STUDY).study(), STUDY))
    found = results(seen)
    for task in seen.study.tasks:
        for base in BASES:
            places = [Place(task=task.workload, arm=base + schedule) for schedule in ("", "+cosine")]
            if not names or task.workload in names:
                yield task.workload, base, task.num_steps, tuple(found[place].median for place in places)


def main() -> None:
    table = []
    with ProcessPoolExecutor(max_workers=2) as pool:
        for done in pool.map(row, *zip(*jobs(sys.argv[1:]), strict=True)):
            table.append(done)
            cells = "  ".join(
                f"{finder} {each['lrs'][0] or math.nan:.2g}: {each['cells']}"
                for finder, each in done["finders"].items()
            )
            print(f"{done['workload']:16s} {done['optimizer']:6s} {cells}", flush=True)
    for optimizer in BASES:
        of_one = [each["finders"] for each in table if each["optimizer"] == optimizer]
        for finder in of_one[0]:
            print(f"{optimizer}: {finder} {sum(each[finder]['cells'] for each in of_one)} of {2 * len(of_one)} cells")
    if not sys.argv[1:]:
        write_results("find_lr", rows=table)


if __name__ == "__main__":
    main()
