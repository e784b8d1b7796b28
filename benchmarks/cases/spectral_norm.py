"""Spectral normalisation moves its buffers in every forward pass: probes start from the moved ones.

The right s is measured here by a one-sided difference whose two gradients both start from the buffers that the training
pass starts from.
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from dcao import DCAO, MemoryRecorder, policies

LR = 0.1


def right_s(loss_fn, params, buffers):
    """Stability number of plain gradient descent along its own step; leaves parameters and buffers as they were."""
    kept = [buffer.clone() for buffer in buffers]

    def put_buffers_back():
        for buffer, old in zip(buffers, kept, strict=True):
            buffer.copy_(old)

    def gradient():
        put_buffers_back()
        return torch.autograd.grad(loss_fn(), params)

    @torch.no_grad()
    def move(distance):
        for param, direction in zip(params, here, strict=True):
            param.add_(direction, alpha=distance)

    here = gradient()
    square = sum((g * g).sum() for g in here)
    length = 3e-3 / square.sqrt().item()
    move(-length)
    there = gradient()
    move(length)
    put_buffers_back()
    curvature = sum(((a - b) * a).sum() for a, b in zip(here, there, strict=True)).item() / length
    return LR * curvature / square.item()


def main():
    torch.manual_seed(0)
    x = torch.randn(2048, 20)
    y = (torch.tanh(x) @ torch.randn(20, 5)).argmax(1)
    layers = [part for sizes in ((20, 64), (64, 64), (64, 5)) for part in (spectral_norm(nn.Linear(*sizes)), nn.ReLU())]
    net = nn.Sequential(*layers)[:-1]
    recorder, errors = MemoryRecorder(), []
    base = torch.optim.SGD(net.parameters(), lr=LR)
    optimizer = DCAO(base, measure="batch", policy=policies.Fixed(), every=1, recorder=recorder)
    for _ in range(60):
        rows = torch.randint(0, 2048, (64,))

        def loss_fn(rows=rows):
            return F.cross_entropy(10 * net(x[rows]), y[rows])

        right = right_s(loss_fn, list(net.parameters()), list(net.buffers()))
        optimizer.minimize(loss_fn)
        errors.append(abs(recorder.records[-1].estimate.s - right) / abs(right))
    median = sorted(errors)[30]
    print(f"relative error of s over 60 steps: median {median:.2f}, largest {max(errors):.1f}")
    return median > 0.2


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
