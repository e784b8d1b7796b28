"""A small Transformer language model, by default with the sizes of PyTorch's word_language_model example.

The example has width 200, 2 heads, 2 layers, a feed-forward network of 200, dropout 0.2, 35 words at a time and batches
of 20. The rest is as in GPT-2: norms before the sublayers, learned positions, GELU, and small normal initial weights.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.networks.transformer import TransformerBlock, TransformerShape, init_weights

CONTEXT = 35
SHAPE = TransformerShape(width=200, num_heads=2, num_layers=2, expansion=1, dropout=0.2, is_causal=True)


class TransformerModel(nn.Module):
    """Causal Transformer over at most ``context`` words; it has 4.5 million parameters with 10 000 words.

    Args:
        num_words: Size of the vocabulary.
        shape: Sizes of the Transformer.
        context: Number of positions.
        has_bias: Whether each word has a bias in the output layer.
    """

    def __init__(
        self, num_words: int, shape: TransformerShape = SHAPE, context: int = CONTEXT, has_bias: bool = True
    ) -> None:
        super().__init__()
        self.dropout = shape.dropout
        self.words = nn.Embedding(num_words, shape.width)
        self.positions = nn.Embedding(context, shape.width)
        self.blocks = nn.Sequential(*(TransformerBlock(shape) for _ in range(shape.num_layers)))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, num_words, bias=has_bias)
        self.apply(init_weights)

    def forward(self, words: Tensor) -> Tensor:
        """Logits (batch, length, vocabulary) of the next words."""
        hidden = self.words(words) + self.positions.weight[: words.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(F.dropout(hidden, self.dropout, self.training))))
        return logits
