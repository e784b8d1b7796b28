"""MNIST-1D with the fully connected network of its paper (Greydanus and Kobak), as its authors publish it."""

from torch import Tensor, nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.embedded.mnist1d import BATCH_SIZE, LENGTH, mnist1d_splits

WIDTH = 100

INFO = WorkloadInfo(
    name="mnist1d_mlp",
    title="MNIST-1D MLP",
    summary=f"MNIST-1D, ReLU network with two hidden layers of {WIDTH}, batch {BATCH_SIZE}",
    target=0.58,
    batch_size=BATCH_SIZE,
    num_steps=4000,
    eval_every=200,
    step_cost=0.8,
)


class MLP(nn.Module):
    """40 points, two hidden layers of 100, the second beside a shortcut, ten classes: 15 210 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(LENGTH, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, signals: Tensor) -> Tensor:
        """Logits (batch, 10) of signals (batch, 1, 40)."""
        hidden = self.first(signals.flatten(1)).relu()
        logits: Tensor = self.head(hidden + self.second(hidden).relu())
        return logits


WORKLOADS = (ClassificationWorkload(INFO, MLP, mnist1d_splits),)
