"""Wrap AdamW, start from a hopeless learning rate, and see what the curvature made of it."""

import torch
from torch.nn import functional as F

from dcao import DCAO, MemoryRecorder


def main() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2048, 20)
    labels = (inputs[:, :10].square().sum(dim=1) > 10.0).long()
    model = torch.nn.Sequential(torch.nn.Linear(20, 128), torch.nn.ReLU(), torch.nn.Linear(128, 2))

    recorder = MemoryRecorder()
    optimizer = DCAO(torch.optim.AdamW(model.parameters(), lr=1e-6), recorder=recorder)
    for step in range(500):
        batch = torch.randint(0, len(inputs), (64,))
        loss = optimizer.minimize(lambda batch=batch: F.cross_entropy(model(inputs[batch]), labels[batch]))
        if step % 100 == 0:
            print(f"step {step:3d}  loss {loss:.3f}  {recorder.records[-1].decision.reason}")
    share = optimizer.probe_cost / (optimizer.probe_cost + optimizer.num_steps)
    print(f"lr 1e-6 -> {optimizer.param_groups[0]['lr']:.1e}; probing took {share:.0%} of all gradient evaluations")


if __name__ == "__main__":
    main()
