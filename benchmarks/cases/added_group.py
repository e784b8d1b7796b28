"""Train the head first, then thaw the backbone with ``add_param_group``: given one lr, both must train at one lr."""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO


def run(lr):
    torch.manual_seed(0)
    x, backbone, head = torch.randn(512, 20), nn.Sequential(nn.Linear(20, 64), nn.ReLU()), nn.Linear(64, 5)
    y = (torch.tanh(x) @ torch.randn(20, 5)).argmax(1)
    optimizer = DCAO(torch.optim.AdamW(head.parameters(), lr=lr))
    for step in range(200):
        if step == 100:
            optimizer.add_param_group({"params": list(backbone.parameters())})
        loss = optimizer.minimize(lambda: F.cross_entropy(head(backbone(x)), y))
    return [group["lr"] for group in optimizer.param_groups], loss.item()


def main():
    runs = {lr: run(lr) for lr in (1e-6, 1e-3, 10.0)}
    print(
        "; ".join(
            f"given {given:g}: lrs {head:.2g} and {backbone:.2g}, loss {loss:.2g}"
            for given, ((head, backbone), loss) in runs.items()
        )
    )
    return any(not 0.2 < head / backbone < 5 for (head, backbone), _ in runs.values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
