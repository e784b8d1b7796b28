"""A model that starts from zeros, as a logistic regression or an adversarial delta: the lr that was given decides."""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO


def run(lr):
    torch.manual_seed(0)
    x, w = torch.randn(512, 20), nn.Parameter(torch.zeros(20, 5))
    y = (x @ torch.randn(20, 5)).argmax(1)
    optimizer = DCAO(torch.optim.AdamW([w], lr=lr))
    for _ in range(200):
        loss = optimizer.minimize(lambda: F.cross_entropy(x @ w, y))
    return optimizer.param_groups[0]["lr"], loss.item()


def main():
    runs = {given: run(given) for given in (1e-7, 1e-3, 10.0)}
    print("; ".join(f"given {given:g}: lr {lr:.2g} loss {loss:.2f}" for given, (lr, loss) in runs.items()))
    losses = [loss for _, loss in runs.values()]
    return max(losses) > 2 * min(losses)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
