"""How far one training step runs through our files: what a reader has to open to see where a learning rate comes from.

Traces one step of AdamW on a small MLP with ``sys.setprofile``, after a few steps to warm up, and counts the frames of
one package alone (``dcao``; for the bare optimizer ``torch.optim``):

- files: files of the package in which a function ran;
- functions: different functions and lambdas that ran, at whatever line they were entered;
- moves: calls that enter another file than the call before them did, in the order in which they happen. A generator
  that is resumed counts as a call, a return does not;
- deepest: most frames of the package that were on the stack at once.

The bodies of comprehensions and generator expressions are no functions here: they belong to the line around them, and
newer Pythons inline most of them.

Run: python benchmarks/step_trace.py [SRC], where SRC is the ``src`` folder of another checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WARM_UP = 3  # step 3 is plain; step 4 also keeps its gradient for the probe at step 5
LINE = "{:34s} {:>6} {:>10} {:>6} {:>8}"


@dataclass
class Trace:
    """The calls into files of ``folder`` while it is active."""

    folder: Path
    calls: list[CodeType] = field(default_factory=list)
    deepest: int = 0
    depth: int = 0

    def __enter__(self) -> Trace:
        sys.setprofile(self._see)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not self._counts(code):
            return
        self.depth += 1 if event == "call" else -1
        self.deepest = max(self.deepest, self.depth)
        if event == "call":
            self.calls.append(code)

    def _counts(self, code: CodeType) -> bool:
        named = not code.co_name.startswith("<") or code.co_name == "<lambda>"
        return named and code.co_filename.startswith(f"{self.folder}/")

    @property
    def num_files(self) -> int:
        return len({call.co_filename for call in self.calls})

    @property
    def num_functions(self) -> int:
        return len(set(self.calls))

    @property
    def num_moves(self) -> int:
        pairs = zip(self.calls, self.calls[1:], strict=False)
        return sum(before.co_filename != after.co_filename for before, after in pairs)

    def print_row(self, name: str) -> None:
        """One line of the table."""
        print(LINE.format(name, self.num_files, self.num_functions, self.num_moves, self.deepest))


def problem() -> tuple[nn.Module, Callable[[], Tensor]]:
    """A small MLP and its loss on one batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5))
    inputs, labels = torch.randn(256, 20), torch.randint(0, 5, (256,))
    return model, lambda: F.cross_entropy(model(inputs), labels)


def trace_torch() -> Trace:
    """A step of the bare optimizer, with a closure."""
    model, loss_fn = problem()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn()
        loss.backward()
        return loss

    for _ in range(WARM_UP):
        optimizer.step(closure)
    with Trace(Path(torch.optim.__file__).parent) as trace:
        optimizer.step(closure)
    return trace


def trace_dcao() -> dict[bool, Trace]:
    """By whether it probes, the first such step after the warm-up."""
    import dcao

    model, loss_fn = problem()
    optimizer = dcao.DCAO(torch.optim.AdamW(model.parameters(), lr=1e-3))
    for _ in range(WARM_UP):
        optimizer.minimize(loss_fn)
    traces: dict[bool, Trace] = {}
    while len(traces) < 2:
        cost = optimizer.probe_cost
        with Trace(Path(dcao.__file__).parent) as trace:
            optimizer.minimize(loss_fn)
        traces.setdefault(optimizer.probe_cost > cost, trace)
    return traces


def main() -> None:
    if len(sys.argv) > 1:
        sys.path.insert(0, sys.argv[1])
    print(LINE.format("one step of AdamW on an MLP", "files", "functions", "moves", "deepest"))
    trace_torch().print_row("torch, in torch.optim")
    traces = trace_dcao()
    traces[False].print_row("DCAO, without a probe, in dcao")
    traces[True].print_row("DCAO, with a probe, in dcao")


if __name__ == "__main__":
    main()
