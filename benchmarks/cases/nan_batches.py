"""One batch of twenty has no label at all, and cross_entropy with ignore_index is nan: each halves lr for good."""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO


def run(share):
    torch.manual_seed(0)
    x, net = torch.randn(2048, 20), nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    y = (torch.tanh(x) @ torch.randn(20, 5) + 0.5 * torch.randn(2048, 5)).argmax(1)
    optimizer = DCAO(torch.optim.AdamW(net.parameters(), lr=1e-3), total_steps=1000)
    generator = torch.Generator().manual_seed(1)
    for _ in range(1000):
        rows = torch.randint(0, 2048, (64,), generator=generator)
        labels = y[rows]
        if torch.rand((), generator=generator) < share:
            labels = torch.full_like(labels, -100)
        optimizer.minimize(lambda rows=rows, labels=labels: F.cross_entropy(net(x[rows]), labels))
    return optimizer, F.cross_entropy(net(x), y).item()


def main():
    (clean, clean_loss), (holey, holey_loss) = run(0.0), run(0.05)
    lrs = [optimizer.param_groups[0]["lr"] for optimizer in (clean, holey)]
    print(
        f"loss {clean_loss:.3f}, last lr {lrs[0]:.1g} without; loss {holey_loss:.3f}, last lr {lrs[1]:.1g} "
        f"with {holey.num_skipped} nan batches of 1000"
    )
    return holey_loss > 2 * clean_loss


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
