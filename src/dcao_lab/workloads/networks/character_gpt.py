"""A GPT that reads characters, with torch's own initial weights but for small embeddings."""

import torch
from torch import Tensor, nn

from dcao_lab.workloads.networks.transformer import INIT_STD, TransformerBlock, TransformerShape
from dcao_lab.workloads.text_windows import VOCABULARY

CONTEXT = 64
SHAPE = TransformerShape(width=64, num_heads=4, num_layers=2, is_causal=True)


class CharacterGPT(nn.Module):
    """Two pre-norm causal blocks over at most 64 characters: 120 704 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(VOCABULARY, SHAPE.width)
        self.positions = nn.Parameter(INIT_STD * torch.randn(CONTEXT, SHAPE.width))
        self.blocks = nn.Sequential(*(TransformerBlock(SHAPE) for _ in range(SHAPE.num_layers)))
        self.norm = nn.LayerNorm(SHAPE.width)
        self.head = nn.Linear(SHAPE.width, VOCABULARY)
        nn.init.normal_(self.characters.weight, std=INIT_STD)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (batch, length, vocabulary) of the next characters."""
        hidden = self.characters(codes) + self.positions[: codes.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(hidden)))
        return logits
