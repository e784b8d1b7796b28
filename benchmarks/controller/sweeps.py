"""Which runs there are to do, and doing them."""

from __future__ import annotations

import json
import time
from typing import Any

from arms import GIVEN_LR, PEERS, run
from records import RESULTS, key, results, summarise
from tasks import TASKS

GRID = tuple(float(f"{digit}e{power}") for power in range(-8, 3) for digit in (1, 3))
FIRST_ADAMW_LRS = (1e-3, 3e-3, 1e-2)  # a sweep goes on from here until its best is inside
SWEEP_SEEDS, OWN_SEEDS = (0, 1), (0, 1, 2)
NUM_AGAIN = 2  # lrs of a sweep that get the second seed


def jobs_of(name: str, arm: str, variant: str) -> list[dict[str, Any]]:
    """Jobs of the arms that are no sweeps."""

    def every(arm: str, lr: float, seeds: tuple[int, ...], variant: str = "") -> list[dict[str, Any]]:
        return [{"task": name, "arm": arm, "lr": lr, "seed": seed, "variant": variant} for seed in seeds]

    if arm == "peers":
        return [job for other in PEERS for job in every(other, 0.0, SWEEP_SEEDS)]
    bases = [base for base in GIVEN_LR if arm in ("dcao", "open", f"dcao-{base}")]
    if arm == "open":
        return [job for base in bases for job in every(f"dcao-{base}-open", GIVEN_LR[base], SWEEP_SEEDS)]
    return [job for base in bases for job in every(f"dcao-{base}", GIVEN_LR[base], OWN_SEEDS, variant)]


def next_of_sweep(name: str, arm: str) -> list[dict[str, Any]]:
    """One seed, wider by half a decade until the best is inside; then the second seed of the best ones."""
    done = [row for row in results() if row["task"] == name and row["arm"] == arm]
    kind, first = TASKS[name].kind, [row for row in done if row["seed"] == SWEEP_SEEDS[0]]
    tried = sorted(row["lr"] for row in first)
    job = {"task": name, "arm": arm, "seed": SWEEP_SEEDS[0], "variant": ""}
    begin = TASKS[name].sgd_lrs if arm.startswith("sgd") else FIRST_ADAMW_LRS
    missing = [lr for lr in begin if lr not in tried]
    if missing:
        return [{**job, "lr": lr} for lr in missing]
    sign = -1 if kind == "acc" else 1
    ranked = [row["lr"] for row in sorted(first, key=lambda row: (sign * summarise([row], kind), row["lr"]))]
    low, high = GRID.index(tried[0]), GRID.index(tried[-1])
    if ranked[0] == tried[0] and low > 0:
        return [{**job, "lr": GRID[low - 1]}]
    if ranked[0] == tried[-1] and high < len(GRID) - 1:
        return [{**job, "lr": GRID[high + 1]}]
    again = [{**job, "lr": lr, "seed": seed} for lr in ranked[:NUM_AGAIN] for seed in SWEEP_SEEDS[1:]]
    return [job for job in again if key(job) not in {key(row) for row in done}]


def work_off(pool: Any, jobs: list[dict[str, Any]]) -> None:
    """Do those jobs that are not done, and write a line for each."""
    done, started = {key(row) for row in results()}, time.time()
    jobs = [job for job in jobs if key(job) not in done]
    with RESULTS.open("a") as file:
        for number, result in enumerate(pool.imap_unordered(run, jobs), start=1):
            file.write(json.dumps(result) + "\n")
            file.flush()
            if number % 50 == 0 or number == len(jobs):
                seconds = time.time() - started
                print(f"{number}/{len(jobs)} {seconds:.0f} s {result['task']} {result['arm']}", flush=True)
