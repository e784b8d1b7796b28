"""What a run in the lab costs beyond a bare torch loop: logging, norms, hashing and storing, evaluations left out.

Both sides train digits_mlp by AdamW on the same batches from the same weights, one thread, with ``loss.item()`` every
step, evaluated as often as the studies do; they take turns, in an order that changes, and each turn gives one ratio.
The bare loop runs twice a turn: how far the two are apart is the noise. CPU time is beside wall time because other work
on the machine moves the latter more.
The verdict is by the 95 % interval of the median ratio.

Run: python benchmarks/lab_overhead.py. Prints a table and writes benchmarks/results/lab_overhead.json.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcao_lab.config import RunConfig
from dcao_lab.runner import run
from dcao_lab.statistics import bootstrap_interval
from dcao_lab.store import RunStore
from dcao_lab.study.recipes.parts import EVALUATIONS
from dcao_lab.workloads import WORKLOADS, Problem, StartRequest, WorkloadInfo

RESULTS = Path(__file__).parent / "results"
NUM_TURNS = 60
NUM_STEPS = 1000
EVAL_EVERY = NUM_STEPS // EVALUATIONS
LR = 1e-3
BOUND = 0.02  # of a step


class WithoutEvaluation:
    """A workload whose evaluations cost nothing, so that they are on neither side."""

    def __init__(self, name: str) -> None:
        self._workload = WORKLOADS[name]

    @property
    def info(self) -> WorkloadInfo:
        """The workload's own, under a name of its own."""
        return dataclasses.replace(self._workload.info, name=f"{self._workload.info.name}_unevaluated")

    def start(self, request: StartRequest) -> Problem:
        """The workload's own problem with constant metrics."""
        return dataclasses.replace(
            self._workload.start(request), evaluate=lambda split: {"loss": 1.0, self.info.metric: 0.5}
        )


def bare(workload: WithoutEvaluation, seed: int) -> None:
    problem = workload.start(StartRequest(seed=seed))
    optimizer = torch.optim.AdamW(problem.model.parameters(), lr=LR)
    total = 0.0
    for step in range(NUM_STEPS):
        if step % EVAL_EVERY == 0:  # as any loop would; what is evaluated is a constant on both sides
            problem.model.eval()
            with torch.no_grad():
                problem.evaluate("validation"), problem.evaluate("test")
            problem.model.train()
        batch = next(problem.batches)
        optimizer.zero_grad()
        loss = problem.loss(batch)
        loss.backward()
        optimizer.step()
        total += loss.item()


def in_the_lab(workload: WithoutEvaluation, store: RunStore, seed: int) -> None:
    config = RunConfig(
        workload=workload.info.name,
        optimizer="adamw",
        lr=LR,
        seed=seed,
        num_steps=NUM_STEPS,
        eval_every=EVAL_EVERY,
    )
    run(config, store)


def seconds(function: Callable[[], None]) -> dict[str, float]:
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def turns(workload: WithoutEvaluation, store: RunStore) -> list[dict[str, dict[str, float]]]:
    """Seconds of both sides, turn by turn; the first turn warms up and is left out."""
    rows = []
    for turn in range(NUM_TURNS + 1):
        sides = {
            "bare": partial(bare, workload, turn),
            "lab": partial(in_the_lab, workload, store, turn),
            "again": partial(bare, workload, turn),
        }
        order = list(sides) if turn % 2 else list(reversed(sides))
        rows.append({side: seconds(sides[side]) for side in order})
    return rows[1:]


def summary(rows: list[dict[str, dict[str, float]]], clock: str, side: str) -> dict[str, Any]:
    """Median, its interval and the quartiles of the turns' ratios to the bare loop, and that of the fastest turns."""
    ours, theirs = ([row[name][clock] for row in rows] for name in (side, "bare"))
    ratios = [one / other - 1.0 for one, other in zip(ours, theirs, strict=True)]
    quartiles, interval = statistics.quantiles(ratios, n=4), bootstrap_interval([np.array(ratios)], np.median)
    return {
        "clock": clock,
        "side": side,
        "overhead": statistics.median(ratios),
        "interval": [interval.low, interval.high],
        "quartiles": [quartiles[0], quartiles[2]],
        "overhead_of_the_fastest": min(ours) / min(theirs) - 1.0,
        "microseconds_a_step": 1e6 * statistics.median(ours) / NUM_STEPS,
        "bare_microseconds_a_step": 1e6 * statistics.median(theirs) / NUM_STEPS,
        "overheads": ratios,
    }


def verdict(lab: dict[str, Any], again: dict[str, Any]) -> str:
    """Whether the bound is met, if the interval says so and the bare loop against itself is within it."""
    low, high = lab["interval"]
    if low <= BOUND <= high or max(map(abs, again["interval"])) > BOUND:
        return "not decided, the noise is as large as the bound; run this on a quiet machine"
    return "met" if high < BOUND else "NOT met"


def main() -> None:
    torch.set_num_threads(1)
    workload = WithoutEvaluation("digits_mlp")
    WORKLOADS[workload.info.name] = workload
    with tempfile.TemporaryDirectory() as folder:
        rows = turns(workload, RunStore(Path(folder)))
    table = [summary(rows, clock, side) for clock in ("cpu", "wall") for side in ("lab", "again")]
    print(
        f"{'clock':6s} {'side':6s} {'bare':>8s} {'side':>8s} {'overhead':>9s} {'fastest':>8s}   interval of the median"
    )
    for row in table:
        low, high = row["interval"]
        print(
            f"{row['clock']:6s} {row['side']:6s} {row['bare_microseconds_a_step']:8.1f} "
            f"{row['microseconds_a_step']:8.1f} {row['overhead']:9.2%} {row['overhead_of_the_fastest']:8.2%}   "
            f"{low:.2%} to {high:.2%}"
        )
    print(f"bound {BOUND:.0%} of a step, by CPU time: {verdict(table[0], table[1])}")
    RESULTS.mkdir(exist_ok=True)
    record = {"torch": torch.__version__, "machine": platform.machine(), "num_steps": NUM_STEPS, "bound": BOUND}
    record |= {"eval_every": EVAL_EVERY, "num_turns": NUM_TURNS}
    record["verdict"] = verdict(table[0], table[1])
    (RESULTS / "lab_overhead.json").write_text(json.dumps({**record, "rows": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
