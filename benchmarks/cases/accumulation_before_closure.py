"""Gradients accumulated before the closure: the step is of four micro-batches, and a probe sees the last one alone.

Lightning's ``accumulate_grad_batches`` does so: backward on the first micro-batches outside, ``zero_grad`` only there,
and the last one in the closure.
"""

import sys
import warnings

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO


def run(inside):
    torch.manual_seed(0)
    x, net = torch.randn(2048, 20), nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    y, generator = (x @ torch.randn(20, 5)).argmax(1), torch.Generator().manual_seed(1)
    optimizer = DCAO(torch.optim.AdamW(net.parameters(), lr=1e-4))

    def backward(rows):
        loss = F.cross_entropy(net(x[rows]), y[rows]) / 4
        loss.backward()
        return loss

    for _ in range(200):
        parts = [torch.randint(0, 2048, (16,), generator=generator) for _ in range(4)]

        def closure(parts=parts):
            if inside:
                optimizer.zero_grad()
            return [backward(rows) for rows in (parts if inside else parts[-1:])][-1]

        optimizer.zero_grad()
        if not inside:
            for rows in parts[:-1]:
                backward(rows)
        optimizer.step(closure)
    return optimizer.param_groups[0]["lr"], F.cross_entropy(net(x), y).item()


def main():
    lr, loss = run(inside=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            lr_outside, loss_outside = run(inside=False)
        except ValueError as error:
            print(error)
            return False
    print(
        f"all four in the closure: lr {lr:.2g} loss {loss:.2f}; only the last: lr {lr_outside:.2g} "
        f"loss {loss_outside:.2f} (the same gradients)"
    )
    return lr_outside < 0.3 * lr and not caught


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
