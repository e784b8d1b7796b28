"""A checkpoint that lacks a key which this version has added: the base is loaded already when the error comes."""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO


def main():
    torch.manual_seed(0)
    x, y, net = torch.randn(64, 20), torch.randint(0, 5, (64,)), nn.Linear(20, 5)
    optimizer = DCAO(torch.optim.AdamW(net.parameters(), lr=1e-3))
    for _ in range(30):
        optimizer.minimize(lambda: F.cross_entropy(net(x), y))
    saved = optimizer.state_dict()
    del saved["dcao"]["guard"]["first_loss"]
    fresh = DCAO(torch.optim.AdamW(net.parameters(), lr=1e-3))
    try:
        fresh.load_state_dict(saved)
        text, wrong = "loaded", False
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        wrong = len(str(error)) < 40 or len(fresh.base.state) > 0
    print(f"{text}; the base had been loaded already: {len(fresh.base.state) > 0}")
    return wrong


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
