"""torch's own Transformer with an encoder and a decoder (Vaswani et al. 2017), for short sequences."""

import torch
from torch import Tensor, nn

from dcao_lab.workloads.networks.transformer import INIT_STD

WIDTH = 32


class SequenceTransformer(nn.Module):
    """One layer each way, with torch's dropout of 0.1, to predict each symbol of an answer from the ones before it.

    Args:
        num_symbols: Number of symbols; one more stands before an answer.
        length: Length of a sequence and of its answer.
    """

    def __init__(self, num_symbols: int, length: int) -> None:
        super().__init__()
        self.num_symbols, self.length = num_symbols, length
        self.embed = nn.Embedding(num_symbols + 2, WIDTH)
        self.positions = nn.Parameter(INIT_STD * torch.randn(length + 1, WIDTH))
        self.net = nn.Transformer(WIDTH, 4, 1, 1, 64, batch_first=True)
        self.head = nn.Linear(WIDTH, num_symbols + 2)

    def forward(self, source: Tensor, answer: Tensor) -> Tensor:
        """Logits (batch, symbols, length) of the answer, each from the sequence and the right symbols before it."""
        start = torch.full_like(answer[:, :1], self.num_symbols)
        before = torch.cat([start, answer[:, :-1]], 1)
        mask = nn.Transformer.generate_square_subsequent_mask(self.length, device=source.device)
        inputs = [self.embed(symbols) + self.positions[: self.length] for symbols in (source, before)]
        logits: Tensor = self.head(self.net(*inputs, tgt_mask=mask, tgt_is_causal=True))
        return logits.transpose(1, 2)
