"""Relative error of s in each mode of mixed and half precision, against float64 at the same weights.

Three smooth networks (an MLP, convolutions with BatchNorm, a Transformer with LayerNorm), AdamW and SGD, trained for 50
steps by the default policy and probed at every fifth. At each probe the model, the optimizer and DCAO's memory are
copied to float64, and the copy measures the same step. Values of s below 0.01 are left out: the edge is at 2.
For the last mode the loss is a thousandth of what it is, as where a mean is taken over many tokens.

Run: python benchmarks/stability_by_precision.py. Prints a table and writes
benchmarks/results/stability_by_precision.json.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao import DCAO
from recorded import write_results

NUM_STEPS, EVERY, SMALLEST = 50, 5, 0.01


@dataclass(frozen=True)
class Mode:
    """How a network is computed.

    Attributes:
        name: What the table calls it.
        params: Dtype of the parameters.
        autocast: Dtype under autocast; None: there is none.
        scaler: Whether a GradScaler scales the loss, in a loop that calls ``probe_if_due``.
        size: Factor of the loss.
    """

    name: str
    params: torch.dtype = torch.float32
    autocast: torch.dtype | None = None
    scaler: bool = False
    size: float = 1.0


MODES = [
    Mode("float32"),
    Mode("autocast bfloat16", autocast=torch.bfloat16),
    Mode("autocast float16, GradScaler", autocast=torch.float16, scaler=True),
    Mode("the same, a loss of 0.001", autocast=torch.float16, scaler=True, size=1e-3),
    Mode("parameters in bfloat16", params=torch.bfloat16),
    Mode("parameters in float16", params=torch.float16),
]


class Transformer(nn.Module):
    """Two blocks over eight tokens."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        blocks = [
            nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, F.gelu, batch_first=True, norm_first=True)
            for _ in range(2)
        ]
        self.embed, self.blocks, self.head = nn.Linear(8, width), nn.Sequential(*blocks), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x.unflatten(1, (8, 8)))).mean(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 10))


def convolutions() -> nn.Module:
    first = (nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.GELU())
    return nn.Sequential(*first, nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.GELU(), nn.Flatten(), nn.Linear(256, 10))


NETWORKS = {"MLP": mlp, "convolutions, BatchNorm": convolutions, "Transformer": Transformer}
BASES = ("AdamW", "SGD")


class Training:
    """A network that is trained in some mode, and can be copied to float64 in the middle of it."""

    def __init__(self, network: str, base: str, mode: Mode, device: str = "cpu") -> None:
        torch.manual_seed(0)
        self.mode, self.device = mode, device
        inputs, directions = torch.randn(NUM_STEPS, 64, 64), torch.randn(64, 10)
        self.inputs, self.targets = inputs.to(device), (inputs @ directions).argmax(-1).to(device)
        model = NETWORKS[network]().to(device, mode.params)
        optimizer = {
            "AdamW": lambda params: torch.optim.AdamW(params, eps=1e-4 if mode.params is torch.float16 else 1e-8),
            "SGD": lambda params: torch.optim.SGD(params, momentum=0.9),
        }[base](model.parameters())
        self.pair = (model, DCAO(optimizer, every=EVERY))
        self.scaler = torch.amp.GradScaler(device)
        self.step = 0

    def loss(self) -> Tensor:
        model = self.pair[0]
        dtype = next(model.parameters()).dtype
        autocast = self.mode.autocast if dtype is torch.float32 else None
        with torch.autocast(self.device, autocast, enabled=autocast is not None):
            outputs = model(self.inputs[self.step].to(dtype))
        wide = outputs if dtype is torch.float64 else outputs.float()
        return self.mode.size * F.cross_entropy(wide, self.targets[self.step])

    def advance(self) -> None:
        optimizer = self.pair[1]
        if self.mode.scaler:
            optimizer.probe_if_due(self.loss)
            optimizer.zero_grad()
            self.scaler.scale(self.loss()).backward()
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            optimizer.minimize(self.loss)
        self.step += 1

    def stability(self, step: int) -> float:
        """What was measured before this step; nan if nothing was, as where the guard has skipped it."""
        estimate = self.pair[1].last_estimate
        return math.nan if estimate.step != step or estimate.s is None else estimate.s

    def in_float64(self) -> Training:
        """A copy whose next probe measures the coming step in float64."""
        twin = copy.copy(self)
        model, optimizer = twin.pair = copy.deepcopy(self.pair)
        model.double()
        optimizer.zero_grad()
        for state in optimizer.state.values():
            moments = {name for name, value in state.items() if name != "step" and isinstance(value, Tensor)}
            state.update({name: state[name].double() for name in moments})
        return twin


def stability_and_truth(
    network: str, base: str, mode: Mode, num_steps: int = NUM_STEPS, device: str = "cpu"
) -> Iterator[tuple[float, float]]:
    """``s``, and what it is in float64, at each probe of a run where it is not tiny."""
    training = Training(network, base, mode, device)
    for step in range(num_steps):
        is_due = step % EVERY == 0
        twin = training.in_float64() if is_due else training
        training.advance()
        if is_due:
            twin.pair[1].minimize(twin.loss)
            found, truth = training.stability(step), twin.stability(step)
            if not math.isnan(found) and abs(truth) >= SMALLEST:
                yield found, truth


def main() -> None:
    rows = []
    print(f"{'mode':30s} {'network':24s} {'base':6s} {'median':>9s} {'9 of 10':>9s} {'largest':>9s} {'probes':>7s}")
    for mode in MODES:
        for network in NETWORKS:
            for base in BASES:
                errors = [abs(s / truth - 1.0) for s, truth in stability_and_truth(network, base, mode)]
                rows.append({"mode": mode.name, "network": network, "base": base, "errors": errors})
                print_row(mode.name, network, base, errors)
        of_mode = [error for row in rows if row["mode"] == mode.name for error in row["errors"]]
        print_row(mode.name, "all", "both", of_mode)
    write_results("stability_by_precision", rows=rows)


def print_row(mode: str, network: str, base: str, errors: list[float]) -> None:
    nine = statistics.quantiles(errors, n=10)[8]
    numbers = f"{statistics.median(errors):9.5f} {nine:9.5f} {max(errors):9.5f} {len(errors):7d}"
    print(f"{mode:30s} {network:24s} {base:6s} {numbers}")


if __name__ == "__main__":
    main()
