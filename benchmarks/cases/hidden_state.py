"""A recurrent network that carries its hidden state from batch to batch: a probe moves the state on.

``policies.Fixed()`` promises the training that there is without probes, bit for bit.
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO, policies

NO_PROBES = 10**9


class Net(nn.Module):
    """A GRU that remembers where the last batch ended."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out, self.h = nn.GRU(1, 16, batch_first=True), nn.Linear(16, 1), None

    def forward(self, x):
        out, h = self.rnn(x, self.h)
        self.h = h.detach()
        return self.out(out)[..., 0]


def run(every):
    """Weights at the end, and the mean loss of the last 50 steps."""
    torch.manual_seed(0)
    inputs = torch.randn(16, 1000)
    means = [inputs[:, : k + 1].mul(0.95 ** torch.arange(k, -1, -1.0)).sum(1) for k in range(1000)]
    targets, net = torch.stack(means, 1) / 3, Net()
    optimizer = DCAO(torch.optim.AdamW(net.parameters(), lr=3e-3), policy=policies.Fixed(), every=every)
    losses = []
    for step in range(300):
        part = slice(step % 100 * 10, step % 100 * 10 + 10)
        loss = optimizer.minimize(lambda part=part: F.mse_loss(net(inputs[:, part, None]), targets[:, part]))
        losses.append(loss.item())
    return net.out.weight.detach(), sum(losses[-50:]) / 50


def main():
    (weights, loss), (probed_weights, probed_loss) = run(NO_PROBES), run(5)
    same = torch.equal(weights, probed_weights)
    print(f"policies.Fixed(): loss {loss:.4f} without probes, {probed_loss:.4f} with; identical: {same}")
    return not same


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
