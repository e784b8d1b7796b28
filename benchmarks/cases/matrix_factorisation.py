"""Matrix factorisation with ``nn.Embedding`` as it comes, N(0, 1): a relative step of 0.1 allows far too much.

A batch sees few of the rows, so that most of ``||w||`` does not move.
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO


def run(wrapped, lr=0.03):
    """First loss, mean of the last 20, and the last lr."""
    torch.manual_seed(0)
    true_users, true_items = torch.randn(20000, 4), torch.randn(5000, 4)
    user, item = nn.Embedding(20000, 32), nn.Embedding(5000, 32)
    users, items = torch.randint(0, 20000, (200000,)), torch.randint(0, 5000, (200000,))
    ratings, generator = (true_users[users] * true_items[items]).sum(1) / 2, torch.Generator().manual_seed(1)
    optimizer, losses = torch.optim.Adam([user.weight, item.weight], lr=lr), []
    if wrapped:
        optimizer = DCAO(optimizer)
    for _ in range(300):
        rows = torch.randint(0, 200000, (1024,), generator=generator)

        def loss_fn(rows=rows):
            return F.mse_loss((user(users[rows]) * item(items[rows])).sum(1) / 32**0.5, ratings[rows])

        if wrapped:
            loss = optimizer.minimize(loss_fn)
        else:
            optimizer.zero_grad()
            loss = loss_fn()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    return losses[0], sum(losses[-20:]) / 20, optimizer.param_groups[0]["lr"]


def main():
    (_, plain, _), (start, end, lr) = run(wrapped=False), run(wrapped=True)
    print(f"mse {start:.2f} at the start; Adam at 0.03: {plain:.2f}; DCAO: {end:.2f} with lr {lr:.2g}")
    return end > 1.5 * plain


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
