"""What DCAO's default costs a step in two checkouts, side by side in one run: gradient evaluations and time.

Each checkout trains the three workloads of ``workloads.py`` in a process of its own. The two take turns, a block of
steps each, so that whatever else the machine does falls on both. Evaluations are counted by the loss function itself,
the training step's own among them. Steps without and with a probe are timed apart, in CPU time of their process.

Run: python benchmarks/price.py BEFORE_SRC, where BEFORE_SRC is the ``src`` folder of another checkout.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BLOCKS, STEPS = 40, 25
LINE = "{:10s} {:9s} {:>12} {:>12} {:>8}"


def work() -> None:
    """Train a block of every workload for each line on standard input; print what it cost."""
    import torch

    from dcao import DCAO
    from workloads import WORKLOADS, cross_entropy

    torch.set_num_threads(1)
    runs = []
    for workload in WORKLOADS:
        torch.manual_seed(0)
        model = workload.model()
        runs.append((workload.name, model, DCAO(workload.optimizer(list(model.parameters()))), workload.batches()))
    for _ in sys.stdin:
        costs: dict[str, Any] = {}
        for name, model, optimizer, batches in runs:
            counter, times = itertools.count(), {"plain": [], "probing": []}  # a probe puts other counters back
            for _ in range(STEPS):
                x, y = next(batches)

                def loss_fn(model=model, x=x, y=y, counter=counter):
                    next(counter)
                    return cross_entropy(model(x), y)

                spent, started = optimizer.probe_cost, time.process_time_ns()
                optimizer.minimize(loss_fn)
                kind = "probing" if optimizer.probe_cost > spent else "plain"
                times[kind].append(time.process_time_ns() - started)
            costs[name] = {"evaluations": next(counter), **times}
        print(json.dumps(costs), flush=True)


def start(source: str) -> subprocess.Popen[str]:
    """A process that trains with the library in ``source``."""
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--work"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def take_turns(processes: list[subprocess.Popen[str]]) -> list[list[dict[str, Any]]]:
    """The blocks of each process; they run one at a time, in turn."""
    blocks: list[list[dict[str, Any]]] = [[] for _ in processes]
    for _ in range(BLOCKS):
        for process, mine in zip(processes, blocks, strict=True):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            mine.append(json.loads(process.stdout.readline()))
    return blocks


def main(before: str) -> None:
    """Print one line for each workload and kind of step."""
    processes = [start(before), start(str(Path(__file__).parents[1] / "src"))]
    try:
        old, new = take_turns(processes)
    finally:
        for process in processes:
            process.kill()
    print(LINE.format("workload", "", "before", "after", "ratio"))
    for name in old[0]:
        pairs = [sum(block[name]["evaluations"] for block in blocks) / (BLOCKS * STEPS) for blocks in (old, new)]
        print(LINE.format(name, "evals", *(f"{each:.4f}" for each in pairs), f"{pairs[1] / pairs[0]:.4f}"))
        for kind in ("plain", "probing"):
            times = [statistics.median([t for block in blocks for t in block[name][kind]]) for blocks in (old, new)]
            shown = (f"{each / 1e3:.0f} us" for each in times)
            print(LINE.format(name, kind, *shown, f"{times[1] / times[0]:.3f}"))


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        work()
    elif len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        sys.exit(__doc__)
