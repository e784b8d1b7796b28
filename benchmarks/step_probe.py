"""What one `load`, `batch` or tracking probe of the wrapper costs beyond the training step it belongs to.

Two ways to count: evaluations of the loss function (exact), and CPU time over the CPU time of one gradient, from
training steps with and without a probe in turn (the library's own work included, which weighs on small networks).
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dcao import DCAO, policies
from workloads import Workload, cross_entropy

WARMUP, REPEATS = 20, 60


def step_probe_rows(workload: Workload, batch_scales: tuple[int, ...] = (1, 8)) -> list[dict[str, Any]]:
    """One row a measure and batch size."""
    return [
        measure_row(workload, measure, scale)
        for scale in batch_scales
        for measure in ("load", "batch", "preconditioned", "hessian")
    ]


def measure_row(workload: Workload, measure: str, scale: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = workload.model()
    loss = CountedLoss(model, large_batches(workload, scale))
    optimizer = DCAO(workload.optimizer(list(model.parameters())), measure=measure, policy=policies.Fixed(), every=2)
    gradient, with_probe, without = [], [], []
    for index in range(WARMUP + REPEATS):
        loss.next_batch()
        seconds = [cpu_seconds(lambda: loss().backward())]
        for _ in range(2):
            calls = loss.calls
            seconds.append(cpu_seconds(lambda: optimizer.minimize(loss)))
        if index >= WARMUP:
            gradient.append(seconds[0])
            with_probe.append(seconds[1])
            without.append(seconds[2])
        assert loss.calls - calls == 1  # the second of the two steps has no probe
    per_probe = [p - w for p, w in zip(with_probe, without, strict=True)]
    return {
        "measure": measure,
        "batch": workload.batch_size * scale,
        "evaluations": optimizer.probe_cost / (optimizer.num_steps / 2),
        "cpu_gradients": statistics.median(per_probe) / statistics.median(gradient),
        "milliseconds_beyond_evaluations": 1e3 * (statistics.median(per_probe) - statistics.median(gradient)),
    }


class CountedLoss:
    """A workload's loss on its present batch; counts its evaluations."""

    def __init__(self, model: torch.nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        self.model, self.batches, self.calls = model, batches, 0
        self.next_batch()

    def next_batch(self) -> None:
        self.inputs, self.targets = next(self.batches)

    def __call__(self) -> Tensor:
        self.calls += 1
        return cross_entropy(self.model(self.inputs), self.targets)


def large_batches(workload: Workload, scale: int) -> Iterator[tuple[Tensor, Tensor]]:
    batches = workload.batches()
    while True:
        parts = list(itertools.islice(batches, scale))
        yield torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def cpu_seconds(function: Callable[[], Any]) -> float:
    before = time.process_time()
    function()
    return time.process_time() - before


def print_step_probes(workload: Workload, rows: list[dict[str, Any]]) -> None:
    print(f"\n{workload.name}: one probe beyond its training step, in gradients of the same batch")
    print(f"{'measure':16s} {'batch':>6s} {'evaluations':>11s} {'CPU time':>9s}")
    for row in rows:
        print(f"{row['measure']:16s} {row['batch']:6d} {row['evaluations']:11.2f} {row['cpu_gradients']:9.2f}")
