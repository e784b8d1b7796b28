"""Relative error of curvature along a step in half precision, by each way of measuring it, against float64.

Four networks, at the start and after 60 steps, along the gradient and along an Adam-like step, by forward differences:
lifted to float32; in half precision itself over the longer step; and float32 parameters under autocast, over the longer
step and over the step for float32. The truth is the same difference in float64, so that the error is that of rounding.

Run: python benchmarks/half_precision.py. Prints a table and writes benchmarks/results/half_precision.json.
"""

from __future__ import annotations

import copy
import statistics

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao.operators import FiniteDifferenceOperator
from dcao.vectors import flatten
from recorded import write_results

WAYS = ("lifted", "own precision", "autocast", "autocast, step for float32")


def mlp(activation: type[nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), activation(), nn.Linear(128, 128), activation(), nn.Linear(128, 10))


def convolutions() -> nn.Module:
    first = (nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*first, nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))


NETWORKS = {
    "linear": lambda: nn.Linear(64, 10),
    "relu mlp": lambda: mlp(nn.ReLU),
    "tanh mlp": lambda: mlp(nn.Tanh),
    "batch norm": convolutions,
}


class Case:
    """A network at some point of its training in float32, with its data."""

    def __init__(self, name: str, num_steps: int) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(128, 64)
        self.targets = (self.x @ torch.randn(64, 10)).argmax(1)
        self.model = NETWORKS[name]()
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=2e-3)
        for _ in range(num_steps):
            optimizer.zero_grad()
            self.loss(self.model).backward()
            optimizer.step()

    def loss(self, model: nn.Module, autocast: torch.dtype | None = None) -> Tensor:
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            outputs = model(self.x.to(next(model.parameters()).dtype))
        return F.cross_entropy(outputs if outputs.dtype is torch.float64 else outputs.float(), self.targets)

    def curvature(self, way: str, dtype: torch.dtype, adam: bool) -> tuple[float, float]:
        """``d'Hd`` by this way, and the truth at the same weights."""
        autocast, forced = way.startswith("autocast"), "for the comparison" if way == "own precision" else ""
        model = copy.deepcopy(self.model) if autocast else copy.deepcopy(self.model).to(dtype)
        twin, params = copy.deepcopy(model).double(), list(model.parameters())
        loss_fn = lambda: self.loss(model, dtype if autocast else None)  # noqa: E731
        gradient = flatten(torch.autograd.grad(loss_fn(), params), dtype=torch.float32)
        d = gradient / (gradient.abs() + 1e-3 * gradient.abs().max()) if adam else gradient
        operator = FiniteDifferenceOperator(
            loss_fn,
            params,
            kind="forward",
            base_gradient=gradient,
            precision=dtype if way == "autocast" else None,
            why_not_lifted=forced,
        )
        found = -float(torch.dot(d, operator.matvec(-d)))  # the optimizer steps along -d
        length = operator.step_length
        exact = FiniteDifferenceOperator(lambda: self.loss(twin), twin.parameters(), kind="forward", step_length=length)
        return found, -float(torch.dot(d.double(), exact.matvec(-d.double())))


def main() -> None:
    rows = []
    print(f"{'dtype':10s} {'network':11s} step along     " + "".join(f"{way:>28s}" for way in WAYS))
    for dtype in (torch.bfloat16, torch.float16):
        for name in NETWORKS:
            for num_steps in (0, 60):
                case = Case(name, num_steps)
                for adam in (False, True):
                    found = {way: case.curvature(way, dtype, adam) for way in WAYS}
                    errors = {way: abs(value / truth - 1.0) for way, (value, truth) in found.items()}
                    along = "adam" if adam else "gradient"
                    rows.append(
                        {"dtype": str(dtype), "network": name, "step": num_steps, "along": along, "errors": errors}
                    )
                    line = "".join(f"{error:28.3f}" for error in errors.values())
                    print(f"{str(dtype)[6:]:10s} {name:11s} {num_steps:4d} {along:9s}" + line)
    for quantile in (5, 9):
        cuts = [statistics.quantiles([row["errors"][way] for row in rows], n=10)[quantile - 1] for way in WAYS]
        print(f"{quantile} of 10 below" + " " * 23 + "".join(f"{cut:28.3f}" for cut in cuts))
    write_results("half_precision", rows=rows)


if __name__ == "__main__":
    main()
