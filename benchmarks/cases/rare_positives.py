"""Rare positives, weighted as usual by one over their share: every batch that holds one is skipped as garbage."""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO

SHARE = 0.002


def main():
    torch.manual_seed(0)
    shift = torch.randn(20).sign() * 0.7
    net = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer, seen, weight = DCAO(torch.optim.AdamW(net.parameters(), lr=1e-3)), 0, torch.tensor(1 / SHARE)
    for _ in range(1500):
        y = (torch.rand(16) < SHARE).float()
        x = torch.randn(16, 20) + y[:, None] * shift
        seen += int(y.any())
        optimizer.minimize(lambda x=x, y=y: F.binary_cross_entropy_with_logits(net(x)[:, 0], y, pos_weight=weight))
    with torch.no_grad():
        negatives, positives = net(torch.randn(2000, 20))[:, 0], net(torch.randn(2000, 20) + shift)[:, 0]
    auc = (positives[:, None] > negatives).float().mean().item()
    print(
        f"{seen} batches hold a positive, {optimizer.num_skipped} steps skipped, AUC {auc:.2f} "
        "(AdamW alone: 0.98, guard=False: 0.94)"
    )
    return auc < 0.9


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
