"""SGD on the same loss in other units, such as a sum over pixels in 0..255: the bounds on lr are absolute."""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO


def run(unit):
    torch.manual_seed(0)
    x, net = torch.randn(2048, 20), nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    y, generator = (x @ torch.randn(20, 5)).argmax(1), torch.Generator().manual_seed(1)
    optimizer = DCAO(torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9))
    for _ in range(200):
        rows = torch.randint(0, 2048, (64,), generator=generator)
        optimizer.minimize(lambda rows=rows: unit * F.cross_entropy(net(x[rows]), y[rows]))
    return F.cross_entropy(net(x), y).item(), optimizer.param_groups[0]["lr"]


def main():
    runs = {unit: run(unit) for unit in (1e-7, 1.0, 1e7, 1e12)}
    print("; ".join(f"x{unit:g}: loss {loss:.3g} lr {lr:.1g}" for unit, (loss, lr) in runs.items()))
    usual, _ = runs[1.0]
    return any(loss > 2 * usual for loss, _ in runs.values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
