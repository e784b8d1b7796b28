"""What DCAO adds to the time of whole runs whose bare steps take about 10, 100 and 1000 ms on one CPU thread.

A bare AdamW and one inside DCAO take turns, a step each, on equal networks and the same batches, so that whatever else
the machine does falls on both. Three kinds of DCAO's steps are told apart: those without a probe, those of the first
quarter of a run, in which gradients are also compared with the last ones, and those with a probe. The whole run follows
from the numbers of each. The allocator keeps what is freed, so that neither loop pays for clearing memory.

Run: python benchmarks/run_time.py (4 minutes). Prints a table and writes results/run_time.json.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dcao
from dcao_lab.workloads import WORKLOADS, StartRequest
from dcao_lab.workloads.networks.cifar_resnet import CifarResNet
from recorded import keep_freed_memory, write_results

RUNS = (200, 2000)
FIRST_PROBE_CHECK = 1  # evaluations by which the first probe of a run sees that the loss repeats


@dataclass(frozen=True)
class Case:
    """A network, its batches, and how many steps are timed."""

    name: str
    build: Callable[[], nn.Module]
    batches: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    num_steps: int


def pydoc() -> Iterator[tuple[Tensor, Tensor]]:
    yield from WORKLOADS["pydoc_gpt"].start(StartRequest(seed=0)).batches


def images(batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(0)
    while True:
        yield torch.randn(batch_size, 3, 32, 32, generator=draws), torch.randint(10, (batch_size,), generator=draws)


CASES = (
    Case("GPT, 35 k parameters", lambda: WORKLOADS["pydoc_gpt"].start(StartRequest(seed=0)).model, pydoc, 120),
    Case("ResNet-20, batch 48", lambda: CifarResNet(3, 10), lambda: images(48), 80),
    Case("ResNet-20, batch 480", lambda: CifarResNet(3, 10), lambda: images(480), 40),
)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    outputs, targets = model(batch[0]), batch[1]
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def measure(case: Case) -> dict[str, float]:
    """The median bare step in milliseconds, and what each kind of DCAO's steps takes in units of it."""
    torch.manual_seed(0)
    bare_model, model = case.build(), case.build()
    bare = torch.optim.AdamW(bare_model.parameters(), lr=1e-4)
    # Every third step is probed; the first half of these steps is the first quarter of a run.
    optimizer = dcao.DCAO(
        torch.optim.AdamW(model.parameters(), lr=1e-4),
        total_steps=2 * case.num_steps,
        every=lambda step, _: step % 3 == 0,
    )

    def bare_step(batch: tuple[Tensor, Tensor]) -> None:
        bare.zero_grad()
        loss_of(bare_model, batch).backward()
        bare.step()

    def own_step(batch: tuple[Tensor, Tensor]) -> None:
        optimizer.minimize(lambda: loss_of(model, batch))

    return in_turn(bare_step, own_step, optimizer, case.batches(), case.num_steps, time.process_time)


def in_turn(
    bare_step: Callable[[Any], None],
    own_step: Callable[[Any], None],
    optimizer: dcao.DCAO,
    batches: Iterable[Any],
    num_steps: int,
    now: Callable[[], float],
) -> dict[str, float]:
    """The median bare step in milliseconds, and the three kinds of DCAO's steps in units of the bare one beside it.

    Args:
        bare_step: Takes a step on a batch without DCAO.
        own_step: Takes one with it.
        optimizer: The DCAO that takes it, of which the first half of the steps is the first quarter of a run.
        batches: At least ``num_steps`` of them.
        num_steps: Steps of each; the first six, in which much is built once, do not count.
        now: The clock, in seconds.
    """
    bare_times: list[float] = []
    ratios: dict[str, list[float]] = {"plain": [], "compared": [], "probed": []}
    for step, batch in zip(range(num_steps), batches, strict=False):
        started = now()
        bare_step(batch)
        between, spent = now(), optimizer.probe_cost
        own_step(batch)
        ended = now()
        if step < 6:
            continue
        kind = "probed" if optimizer.probe_cost > spent else "compared" if 2 * step < num_steps else "plain"
        bare_times.append(between - started)
        ratios[kind].append((ended - between) / (between - started))
    return {"bare_ms": 1e3 * statistics.median(bare_times)} | {k: statistics.median(v) for k, v in ratios.items()}


def overhead(costs: dict[str, float], num_steps: int) -> float:
    """Part of the bare run's time that DCAO adds."""
    schedule = dcao.schedules.usual(num_steps)
    probed = [step for step in range(num_steps) if schedule(step, 0.0)]
    compared = sum(step not in probed for step in range(num_steps // 4))
    plain = num_steps - compared - len(probed)
    total = plain * costs["plain"] + compared * costs["compared"] + len(probed) * costs["probed"] + FIRST_PROBE_CHECK
    return total / num_steps - 1.0


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    results = {}
    print("network, bare step | a step: plain, compared, probed | a run of", *RUNS, "steps")
    for case in CASES:
        costs = measure(case)
        results[case.name] = costs | {f"run_of_{num_steps}": overhead(costs, num_steps) for num_steps in RUNS}
        steps = "  ".join(f"{costs[kind]:.2f}" for kind in ("plain", "compared", "probed"))
        runs = "  ".join(f"{100 * overhead(costs, num_steps):+.1f} %" for num_steps in RUNS)
        print(f"{case.name}, {costs['bare_ms']:.0f} ms | {steps} | {runs}", flush=True)
    write_results("run_time", cases=results)


if __name__ == "__main__":
    main()
