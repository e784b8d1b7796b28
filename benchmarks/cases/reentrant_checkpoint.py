"""Re-entrant activation checkpointing under ``minimize()``: every probe fails, nobody is told, lr stays as given."""

import sys
import warnings

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dcao import DCAO


def main():
    torch.manual_seed(0)
    x, first = torch.randn(512, 20), nn.Linear(20, 64)
    middle, last = nn.Sequential(nn.ReLU(), nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 5)
    y = (x @ torch.randn(20, 5)).argmax(1)
    params = [*first.parameters(), *middle.parameters(), *last.parameters()]
    optimizer = DCAO(torch.optim.AdamW(params, lr=1e-7))

    def loss_fn():
        return F.cross_entropy(last(checkpoint(middle, first(x), use_reentrant=True)), y)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(100):
            loss = optimizer.minimize(loss_fn)
    lr = optimizer.param_groups[0]["lr"]
    reason = optimizer.last_estimate.reason[:60]
    print(f"after 100 steps lr {lr:.2g}, loss {loss:.2f}, warnings {len(caught)}; reason: {reason}...")
    return lr < 1e-5 and not caught


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
