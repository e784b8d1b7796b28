"""What finite differences of different lengths measure on networks with and without kinks.

Trains a small network on scikit-learn's digits for 60 steps of SGD, then takes the largest Hessian eigenvalue by double
backward and by central differences of several lengths, and the `batch` stability number by one-sided ones.
`python benchmarks/kinks.py` prints the table that docs/theory/non-smoothness.md shows.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import dcao

LENGTHS = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)


def network(kind: str, activation: type[nn.Module]) -> nn.Module:
    if kind == "MLP":
        return nn.Sequential(nn.Linear(64, 128), activation(), nn.Linear(128, 128), activation(), nn.Linear(128, 10))
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        activation(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        activation(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def train(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> None:
    """60 steps of SGD with momentum, on the first 20 batches again and again."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(60):
        batch = slice(64 * (step % 20), 64 * (step % 20) + 64)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[batch]), labels[batch]).backward()
        optimizer.step()


def main() -> None:
    digits = load_digits()
    inputs = torch.tensor(digits.data, dtype=torch.float32) / 16.0
    labels = torch.tensor(digits.target)
    print("network     exact   " + "  ".join(f"{length:>7g}" for length in LENGTHS))
    for kind in ("MLP", "CNN"):
        for activation in (nn.ReLU, nn.Tanh):
            torch.manual_seed(0)
            model = network(kind, activation)
            train(model, inputs, labels)
            print(row(f"{kind} {activation.__name__}", model, inputs[:512], labels[:512]))


def row(name: str, model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> str:
    def loss_fn() -> torch.Tensor:
        return F.cross_entropy(model(inputs), labels)

    def sharpness(**how: object) -> float:
        spectrum = dcao.hessian_spectrum(loss_fn, list(model.parameters()), k=1, num_steps=20, **how)
        return float(spectrum.ritz_values[0])

    by_length = [sharpness(hvp="central", step_length=length) for length in LENGTHS]
    return f"{name:10} {sharpness(hvp='exact'):7.3f}   " + "  ".join(f"{value:7.3f}" for value in by_length)


if __name__ == "__main__":
    main()
