"""Fine-tuning in bfloat16 with a frozen backbone: a probe runs the head in float32 and not the backbone, and fails."""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO


def main():
    torch.manual_seed(0)
    x, y = torch.randn(256, 20).bfloat16(), torch.randint(0, 5, (256,))
    backbone = nn.Sequential(nn.Linear(20, 64), nn.ReLU()).bfloat16().requires_grad_(False)
    head = nn.Linear(64, 5).bfloat16()
    optimizer = DCAO(torch.optim.AdamW(head.parameters(), lr=1e-7))
    try:
        for _ in range(30):
            optimizer.minimize(lambda: F.cross_entropy(head(backbone(x)).float(), y))
    except ValueError as error:
        print("ValueError:", str(error)[:150], "...")
        return True
    lr = optimizer.param_groups[0]["lr"]
    print("trained, lr", lr)
    return lr < 1e-5


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
