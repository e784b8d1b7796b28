"""Digits read row by row by a GRU (Cho et al. 2014): eight steps of eight pixels."""

from torch import Tensor, nn

from dcao_lab.workloads.base import WorkloadInfo, with_replacement
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.unseen.splits import digits

ROWS, WIDTH = 8, 64

INFO = WorkloadInfo(
    name="digits_gru",
    title="Digits GRU",
    summary=f"scikit-learn digits row by row, GRU of width {WIDTH}, batch 64",
    target=0.88,
    batch_size=64,
    num_steps=500,
    eval_every=50,
    step_cost=1.7,
)


class GRUClassifier(nn.Module):
    """A GRU whose last state is classified: 14 858 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(ROWS, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, 10) of images (batch, 64)."""
        states, _ = self.gru(images.view(-1, ROWS, ROWS))
        logits: Tensor = self.head(states[:, -1])
        return logits


WORKLOADS = (ClassificationWorkload(INFO, GRUClassifier, digits, draw=with_replacement),)
