"""What DCAO costs on any device: the second part of ``gpu_check.py``'s table."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from dcao import DCAO, policies
from device_checks import Check, Outcome

NEVER = 10**9


class Cost:
    """A Transformer of about 10 million parameters, or a tiny one, and its steps.

    Args:
        device: Where it is.
        is_quick: Take the tiny one, and few steps: this shows that the measurement works, and not what it measures.
    """

    def __init__(self, device: torch.device, *, is_quick: bool) -> None:
        self.device, self.num_steps = device, 5 if is_quick else 30
        width, num_layers, tokens, batch = (16, 1, 8, 2) if is_quick else (384, 6, 128, 16)
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, F.gelu, batch_first=True, norm_first=True)
        body = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.model = nn.Sequential(nn.Linear(32, width), body, nn.Linear(width, 32)).to(device)
        self.inputs = torch.randn(batch, tokens, 32).to(device)

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def loss(self) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            outputs = self.model(self.inputs)
        return F.mse_loss(outputs.float(), self.inputs)

    def stepper(self, **settings: Any) -> Callable[[], Any]:
        """One training step of AdamW, watched by DCAO if there are settings for it."""
        base = optim.AdamW(self.model.parameters(), lr=1e-5)
        if settings:
            optimizer = DCAO(base, policy=policies.Fixed(), **settings)
            return lambda: optimizer.minimize(self.loss)
        return lambda: self._bare(base)

    def _bare(self, base: Optimizer) -> None:
        base.zero_grad()
        self.loss().backward()
        base.step()

    def seconds(self, step: Callable[[], Any]) -> float:
        """The median time of a step, with the device waited for after each."""
        times = []
        for index in range(self.num_steps + 3):
            self.wait()
            started = time.perf_counter()
            step()
            self.wait()
            if index >= 3:
                times.append(time.perf_counter() - started)
        return statistics.median(times)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_copies(self, step: Callable[[], Any]) -> float:
        """Peak memory of a few steps on a CUDA device, in copies of the parameters."""
        for index in range(4):
            if index == 1:  # the optimizer's state is there
                torch.cuda.reset_peak_memory_stats(self.device)
            step()
        return torch.cuda.max_memory_allocated(self.device) / (4 * self.num_parameters)

    def num_waits(self, step: Callable[[], Any]) -> int:
        """Times that one step waits for a CUDA device, as torch itself counts them."""
        for _ in range(3):
            step()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(each.message) for each in caught)


def bare_step(cost: Cost) -> Outcome:
    seconds = cost.seconds(cost.stepper())
    return Outcome("pass", f"{1000 * seconds:.2f} ms ({cost.num_parameters / 1e6:.1f}M parameters, bfloat16 autocast)")


def probe(cost: Cost) -> Outcome:
    bare = cost.seconds(cost.stepper())
    probed = cost.seconds(cost.stepper(every=1, guard=False))
    return Outcome("pass", f"{(probed - bare) / bare:.2f} steps, {1000 * (probed - bare):.2f} ms")


def guard(cost: Cost) -> Outcome:
    without, with_guard = (cost.seconds(cost.stepper(every=NEVER, guard=on)) for on in (False, True))
    found = f"{(with_guard - without) / without:+.1%} of a step, {1000 * (with_guard - without):+.3f} ms"
    if cost.device.type != "cuda":
        return Outcome("pass", found)
    waits = [cost.num_waits(cost.stepper(every=NEVER, guard=on)) for on in (False, True)]
    return Outcome("pass", f"{found}; waits for the device: {waits[1]} a step, {waits[0]} without")


def wrapper(cost: Cost) -> Outcome:
    bare = cost.seconds(cost.stepper())
    wrapped = cost.seconds(cost.stepper(every=NEVER, guard=False))
    return Outcome("pass", f"{(wrapped - bare) / bare:+.1%} of a step")


def memory(cost: Cost) -> Outcome:
    if cost.device.type != "cuda":
        return Outcome("skip", "needs CUDA")
    settings: dict[str, dict[str, Any]] = {
        "bare": {},
        "with the guard": {"every": NEVER, "guard": True},
        "while probed": {"every": 1, "guard": False},
    }
    peaks = [f"{cost.peak_copies(cost.stepper(**setting)):.1f} {name}" for name, setting in settings.items()]
    return Outcome("pass", "peak in copies of the parameters: " + ", ".join(peaks))


COSTS: dict[str, Callable[[Cost], Outcome]] = {
    "cost: a step of the bare optimizer": bare_step,
    "cost: the wrapper, where nothing is due": wrapper,
    "cost: a probe": probe,
    "cost: the guard": guard,
    "cost: memory": memory,
}


def costs(*, is_quick: bool) -> dict[str, Check]:
    """The checks of costs, by name; the model is made anew for each."""
    return {
        name: lambda device, measure=measure: measure(Cost(device, is_quick=is_quick))  # type: ignore[misc]
        for name, measure in COSTS.items()
    }
