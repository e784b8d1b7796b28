"""Python's documentation with a small LSTM: the two-layer language model of Zaremba et al. 2014, by character.

It is much narrower than theirs, has no dropout (a few hundred steps do not overfit), and starts each window with a
state of zeros.
"""

from torch import Tensor, nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.embedded.pydoc import BATCH_SIZE, CONTEXT, PydocWorkload
from dcao_lab.workloads.text_windows import VOCABULARY

WIDTH = 64

INFO = WorkloadInfo(
    name="pydoc_lstm",
    title="Documentation LSTM",
    summary=f"pydoc_data.topics by character, LSTM of 2 layers, width {WIDTH}, context {CONTEXT}, batch {BATCH_SIZE}",
    metric="perplexity",
    higher_is_better=False,
    target=14.0,
    batch_size=BATCH_SIZE,
    num_steps=500,
    eval_every=50,
    step_cost=12.0,
)


class LSTMModel(nn.Module):
    """Embedding, two LSTM layers of 64 and a linear decoder: 83 072 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.lstm = nn.LSTM(WIDTH, WIDTH, num_layers=2, batch_first=True)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (batch, length, vocabulary) of the next character."""
        hidden, _ = self.lstm(self.tokens(codes))
        logits: Tensor = self.head(hidden)
        return logits


WORKLOADS = (PydocWorkload(INFO, LSTMModel),)
