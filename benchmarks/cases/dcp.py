"""State dicts of torch.distributed.checkpoint, which FSDP, torchtitan and Lightning use.

To have a state to load into, a fresh optimizer is stepped once there, with lr 0.
"""

import sys

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.nn import functional as F

from dcao import DCAO


def fresh():
    net = nn.Linear(20, 5)
    return net, DCAO(torch.optim.AdamW(net.parameters(), lr=1e-7))


def main():
    torch.manual_seed(0)
    x, y = torch.randn(64, 20), torch.randint(0, 5, (64,))
    net, optimizer = fresh()
    for _ in range(30):
        optimizer.minimize(lambda: F.cross_entropy(net(x), y))
    saved = get_optimizer_state_dict(net, optimizer)
    other_net, other = fresh()
    other_net.load_state_dict(net.state_dict())
    try:
        set_optimizer_state_dict(other_net, other, saved)
    except ValueError as error:
        print("ValueError:", str(error)[:110], "...")
        return True
    print(f"steps {optimizer.num_steps} -> {other.num_steps}, keys {list(saved)}, governed {other.controller.governed}")
    return other.num_steps != optimizer.num_steps


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
