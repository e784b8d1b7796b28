"""What a run in the lab costs beyond a bare torch loop: logging, norms, hashing and storing, evaluations left out.

Both sides train digits_mlp by AdamW on the same batches from the same weights, one thread, with ``loss.item()`` every
step, evaluated as often as the studies do. The lab's run asks for its batches, and every CHUNK of them the bare loop
makes as many steps: a machine whose speed wanders over a second moves both sides alike, and each run gives one ratio.
Then a bare loop takes the lab's place, in the same way: how far it is from the loop within is the zero of this
instrument (being asked for batches costs a generator), and what the lab has over it is the overhead. CPU time is beside
wall time because other work on the machine moves the latter more.
The verdict is by the 95 % interval of the median over turns.

Run: python benchmarks/lab_overhead.py. Prints a table and writes benchmarks/results/lab_overhead.json.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcao_lab.config import RunConfig
from dcao_lab.runs.runner import run
from dcao_lab.runs.store import RunStore
from dcao_lab.statistics import bootstrap_interval
from dcao_lab.study.recipes.parts import Amount
from dcao_lab.workloads import WORKLOADS, Batch, Problem, StartRequest, WorkloadInfo
from recorded import write_results

NUM_TURNS = 40
NUM_STEPS = 1000
CHUNK = 10  # steps, some 10 ms
EVAL_EVERY = NUM_STEPS // Amount.num_evaluations
LR = 1e-3
BOUND = 0.02  # of a step


Seconds = dict[str, float]  # by clock
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}


def read_clocks() -> Seconds:
    return {clock: read() for clock, read in CLOCKS.items()}


class Stopwatch:
    """Sums the time between ``go`` and ``stop``."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(CLOCKS, 0.0)
        self._started = read_clocks()

    def go(self) -> None:
        self._started = read_clocks()

    def stop(self) -> None:
        for clock, now in read_clocks().items():
            self.seconds[clock] += now - self._started[clock]


class Shared:
    """digits_mlp with evaluations that cost nothing, whose batches let a bare loop go on in between."""

    def __init__(self) -> None:
        self._workload = WORKLOADS["digits_mlp"]
        self.bare, self.setup = Stopwatch(), Stopwatch()

    @property
    def info(self) -> WorkloadInfo:
        """The workload's own, under a name of its own."""
        return dataclasses.replace(self._workload.info, name=f"{self._workload.info.name}_shared")

    def start(self, request: StartRequest) -> Problem:
        """The workload's own problem with constant metrics, and a bare loop beside it."""
        self.setup.go()
        problem, other = self._problem(request), self._problem(request)
        self.setup.stop()
        return dataclasses.replace(problem, batches=self._shared(problem.batches, bare(other)))

    def _problem(self, request: StartRequest) -> Problem:
        metrics = {"loss": 1.0, self.info.metric: 0.5}
        return dataclasses.replace(self._workload.start(request), evaluate=lambda split: metrics)

    def _shared(self, batches: Iterator[Batch], loop: Iterator[None]) -> Iterator[Batch]:
        for step, batch in enumerate(batches):
            if step % CHUNK == 0:
                self.bare.go()
                next(loop)
                self.bare.stop()
            yield batch


def bare(problem: Problem) -> Iterator[None]:
    """A plain torch loop that stops after each CHUNK of steps."""
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
        if step % CHUNK == CHUNK - 1:
            yield


def in_the_lab(workload: Shared, store: RunStore, seed: int) -> None:
    config = RunConfig(
        workload=workload.info.name,
        optimizer="adamw",
        lr=LR,
        seed=seed,
        num_steps=NUM_STEPS,
        eval_every=EVAL_EVERY,
    )
    run(config, store)


def in_a_loop(workload: Shared, seed: int) -> None:
    for _ in bare(workload.start(StartRequest(seed=seed))):
        pass


def against_bare(side: Callable[[Shared], None]) -> dict[str, Seconds]:
    """Seconds of a run and of the bare loop within it; making the problems is on neither account."""
    workload, whole = Shared(), Stopwatch()
    WORKLOADS[workload.info.name] = workload
    gc.collect()
    whole.go()
    side(workload)
    whole.stop()
    others = (workload.bare.seconds, workload.setup.seconds)
    own = {clock: whole.seconds[clock] - sum(other[clock] for other in others) for clock in CLOCKS}
    return {"side": own, "bare": workload.bare.seconds}


def turns(store: RunStore) -> dict[str, list[dict[str, Seconds]]]:
    """Seconds of both sides beside the bare loop, turn by turn; the first turn warms up and is left out."""
    rows: dict[str, list[dict[str, Seconds]]] = {"lab": [], "again": []}
    for seed in range(NUM_TURNS + 1):
        rows["lab"].append(against_bare(partial(in_the_lab, store=store, seed=seed)))
        rows["again"].append(against_bare(partial(in_a_loop, seed=seed)))
    return {side: turns_of[1:] for side, turns_of in rows.items()}


def summary(rows: dict[str, list[dict[str, Seconds]]], clock: str) -> dict[str, Any]:
    """Of the lab over a bare loop in its place: median, its interval and quartiles over the turns."""
    ratios = {
        side: np.array([row["side"][clock] / row["bare"][clock] for row in turns_of]) for side, turns_of in rows.items()
    }
    overheads = ratios["lab"] / ratios["again"] - 1.0
    quartiles, interval = statistics.quantiles(overheads, n=4), bootstrap_interval([overheads], np.median)
    return {
        "clock": clock,
        "overhead": float(np.median(overheads)),
        "interval": [interval.low, interval.high],
        "quartiles": [quartiles[0], quartiles[2]],
        "zero": float(np.median(ratios["again"])) - 1.0,
        "bare_microseconds_a_step": 1e6 * statistics.median(row["bare"][clock] for row in rows["lab"]) / NUM_STEPS,
        "overheads": overheads.tolist(),
    }


def verdict(row: dict[str, Any]) -> str:
    """Whether the bound is met, if the interval says so."""
    low, high = row["interval"]
    if low <= BOUND <= high:
        return "not decided, the noise is as large as the bound; run this on a quiet machine"
    return "met" if high < BOUND else "NOT met"


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = turns(RunStore(Path(folder)))
    table = [summary(rows, clock) for clock in CLOCKS]
    print(f"{'clock':6s} {'bare':>8s} {'overhead':>9s} {'zero':>7s}   interval of the median")
    for row in table:
        low, high = row["interval"]
        print(
            f"{row['clock']:6s} {row['bare_microseconds_a_step']:6.0f}us {row['overhead']:9.2%} {row['zero']:7.2%}   "
            f"{low:.2%} to {high:.2%}"
        )
    print(f"bound {BOUND:.0%} of a step, by CPU time: {verdict(table[0])}")
    settings = {"num_steps": NUM_STEPS, "bound": BOUND, "eval_every": EVAL_EVERY, "num_turns": NUM_TURNS}
    write_results("lab_overhead", **settings, verdict=verdict(table[0]), rows=table)


if __name__ == "__main__":
    main()
