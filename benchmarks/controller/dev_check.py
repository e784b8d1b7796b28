"""The trials of range_test.py on the workloads that the default was developed on, and on those it was first tried on.

SIGMA=4 COH=1 python dev_check.py adamw                # all of them
SIGMA=4 COH=1 python dev_check.py adamw digits_mlp,pydoc_gpt
"""

from __future__ import annotations

import statistics
import sys
import warnings
from collections.abc import Callable

import torch
from torch import nn

import range_test
from dcao_lab.workloads import get_workload
from dcao_lab.workloads.base import StartRequest
from problems import Spec, Task
from tasks import TASKS

BUDGETS = {
    "digits_mlp": 400,
    "digits_resnet": 200,
    "mnist1d_conv": 1000,
    "pydoc_gpt": 300,
    "digits_mlp_16": 400,
    "digits_vit": 300,
    "mnist1d_mlp": 1000,
    "pydoc_lstm": 250,
}
SEEDS = range(5)


def building(name: str) -> Callable[[int], Task]:
    """A workload of the lab as a task."""

    def build(seed: int) -> Task:
        problem = get_workload(name).start(StartRequest(seed=seed))
        batches = iter(problem.batches)

        def evaluate(model: nn.Module) -> dict[str, float]:
            numbers = problem.evaluate("test")
            metric = next((number for number in numbers if number != "loss"), "loss")
            return {"metric": 100 * numbers[metric] if metric == "accuracy" else numbers[metric]}

        return Task(problem.model, lambda: next(batches), problem.loss, evaluate)

    return build


def describe(result: range_test.Result) -> str:
    text = f"{result.metric:.4g}"
    if result.cap:
        text += f"(cap {result.cap:.2g}@{result.capped_at})"
    if result.decay:
        text += f"[coh {result.cosine} decay {result.decay}]"
    return text


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    TASKS.update({name: Spec(building(name), budget, "acc") for name, budget in BUDGETS.items()})
    base, names = sys.argv[1], sys.argv[2].split(",") if len(sys.argv) > 2 else list(BUDGETS)
    trial = range_test.Trial.from_environment(0.5, watch_all=True)
    for name in names:
        results = [range_test.run(name, base, seed, trial) for seed in SEEDS]
        median = statistics.median(result.metric for result in results)
        print(f"{name:14s} median {median:.4g}  " + " ".join(map(describe, results)), flush=True)


if __name__ == "__main__":
    main()
