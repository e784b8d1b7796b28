"""The documented loop probe(), backward, clip, step on a summed loss: lr must not depend on the scale of the loss.

AdamW trains as if the loss were not scaled.
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO


def run(scale):
    torch.manual_seed(0)
    x, net = torch.randn(2048, 20), nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    y, generator = (x @ torch.randn(20, 5)).argmax(1), torch.Generator().manual_seed(1)
    optimizer = DCAO(torch.optim.AdamW(net.parameters(), lr=1e-3))
    for step in range(200):
        rows = torch.randint(0, 2048, (64,), generator=generator)

        def loss_fn(rows=rows):
            return scale * F.cross_entropy(net(x[rows]), y[rows])

        if step % 5 == 0:
            optimizer.probe(loss_fn)
        optimizer.zero_grad()
        loss_fn().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return optimizer.param_groups[0]["lr"], F.cross_entropy(net(x), y).item()


def main():
    (lr, loss), (summed_lr, summed_loss) = run(1), run(64)
    print(
        f"mean loss: lr {lr:.2g} loss {loss:.2f}; summed over 64: lr {summed_lr:.2g} loss {summed_loss:.2f}; "
        "both clipped to 1"
    )
    return summed_lr < 0.2 * lr


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
