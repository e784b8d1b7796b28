"""``next(loader)`` inside the closure, as LBFGS and SAM closures are often written: a probe takes another batch.

The epoch is shorter by the batches that probes have taken. Right is a warning or an error that says so.
"""

import sys
import warnings

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dcao import DCAO

NUM_BATCHES = 200


def main():
    torch.manual_seed(0)
    x = torch.randn(64 * NUM_BATCHES, 20)
    y, net = (x @ torch.randn(20, 5)).argmax(1), nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    loader = iter(DataLoader(TensorDataset(x, y), batch_size=64))
    optimizer, steps = DCAO(torch.optim.AdamW(net.parameters(), lr=1e-3)), 0

    def closure():
        inputs, labels = next(loader)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs), labels)
        loss.backward()
        return loss

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            while True:
                optimizer.step(closure)
                steps += 1
        except StopIteration:
            told = bool(caught)
        except (TypeError, ValueError):
            told = True
    lr = optimizer.param_groups[0]["lr"]
    print(f"200 batches made {steps} steps; lr {lr:.2g} (0.03 with the batch drawn outside); told: {told}")
    return steps < NUM_BATCHES and not told


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
