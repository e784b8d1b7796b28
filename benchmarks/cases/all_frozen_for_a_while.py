"""All of an optimizer's parameters frozen for a phase: torch's step does nothing, DCAO's is an error.

Toggling in GANs and staged training do so.
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO


def main():
    torch.manual_seed(0)
    first, second, x, y = nn.Linear(20, 20), nn.Linear(20, 5), torch.randn(64, 20), torch.randint(0, 5, (64,))
    optimizer = DCAO(torch.optim.AdamW(first.parameters(), lr=1e-3))

    def loss_fn():
        return F.cross_entropy(second(first(x)), y)

    for _ in range(5):
        optimizer.minimize(loss_fn)
    first.requires_grad_(False)
    try:
        for _ in range(30):
            optimizer.minimize(loss_fn)
    except ValueError as error:
        print("ValueError in the middle of the run:", error)
        return True
    print("nothing happens, as with torch")
    return False


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
