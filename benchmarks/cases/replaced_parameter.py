"""Parameters replaced in the groups while training, as Gaussian splatting does: the snapshot goes back to dead ones."""

import sys

import torch
from torch import nn

from dcao import DCAO


def main():
    torch.manual_seed(0)
    first, target, scale = nn.Parameter(torch.randn(50, 3)), torch.randn(50, 3), 1.0
    optimizer = DCAO(torch.optim.Adam([{"params": [first], "name": "xyz"}], lr=1e-3))
    group = optimizer.param_groups[0]

    def loss_fn():
        points = group["params"][0]
        return scale * ((points - target[: len(points)]) ** 2).mean()

    for step in range(40):
        optimizer.minimize(loss_fn)
        if step == 30:  # prune: keep 40 points and their state
            state = optimizer.state.pop(first)
            group["params"][0] = pruned = nn.Parameter(first.detach()[:40].clone())
            optimizer.state[pruned] = {k: v[:40].clone() if v.ndim else v for k, v in state.items()}
    scale = 1e6
    for _ in range(3):
        optimizer.minimize(loss_fn)
    dead = [param for param in optimizer.state if param is not group["params"][0]]
    try:
        optimizer.state_dict()
        text = "state_dict() works"
    except KeyError as error:
        text = f"state_dict(): KeyError {error}"
    print(f"went back {optimizer.num_restored} times; entries of dead parameters in the state: {len(dead)}; {text}")
    return bool(dead)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
