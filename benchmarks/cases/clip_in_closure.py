"""Clipping inside the closure, as Lightning does: s is the curvature of the clipped gradient, nearly 0 along itself."""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO, MemoryRecorder, policies


def first_s(clip):
    torch.manual_seed(0)
    x, net = torch.randn(512, 20), nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    y, params, recorder = (x @ torch.randn(20, 5)).argmax(1), list(net.parameters()), MemoryRecorder()
    optimizer = DCAO(torch.optim.SGD(params, lr=0.1), policy=policies.Fixed(), every=1, recorder=recorder)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(params, 0.1)
        return loss

    optimizer.step(closure)
    return recorder.records[0].estimate.s


def main():
    plain, clipped = first_s(clip=False), first_s(clip=True)
    print(f"s of the first step {plain:.3g}; with clipping inside the closure {clipped:.3g}")
    return not 0.01 < clipped / plain < 5


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
