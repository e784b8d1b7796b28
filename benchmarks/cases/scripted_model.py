"""A scripted or traced model with BatchNorm cannot be trained at all."""

import sys
import warnings

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO


def main():
    torch.manual_seed(0)
    x, y = torch.randn(64, 20), torch.randint(0, 5, (64,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5))
        net = torch.jit.script(net)
    optimizer = DCAO(torch.optim.AdamW(net.parameters(), lr=1e-3))
    try:
        losses = [optimizer.minimize(lambda: F.cross_entropy(net(x), y)) for _ in range(5)]
    except AttributeError as error:
        print("AttributeError:", error)
        return True
    print("loss", losses[-1].item())
    return False


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
