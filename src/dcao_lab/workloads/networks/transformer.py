"""The Transformer block that the GPT and the ViT consist of."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

INIT_STD = 0.02  # as in GPT-2 and ViT


@dataclass(frozen=True, kw_only=True)
class TransformerShape:
    """Sizes of a Transformer.

    Attributes:
        width: Length of a hidden state.
        num_heads: Number of attention heads, which divide the width among them.
        num_layers: Number of blocks.
        expansion: Width of the feed-forward network of a block, in multiples of ``width``.
        dropout: Dropout rate of the output of each sublayer, and of the attention weights.
        is_causal: Whether a position attends only to itself and earlier positions.
    """

    width: int = 32
    num_heads: int = 2
    num_layers: int = 2
    expansion: int = 4
    dropout: float = 0.0
    is_causal: bool


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and a feed-forward network with GELU, each with a residual connection."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.shape = shape
        self.attention_norm = nn.LayerNorm(shape.width)
        self.query_key_value = nn.Linear(shape.width, 3 * shape.width)
        self.attention_output = nn.Linear(shape.width, shape.width)
        self.network_norm = nn.LayerNorm(shape.width)
        self.network = nn.Sequential(
            nn.Linear(shape.width, shape.expansion * shape.width),
            nn.GELU(),
            nn.Linear(shape.expansion * shape.width, shape.width),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """The hidden states (batch, length, width) after this block."""
        hidden = hidden + self._drop(self.attention_output(self._attend(self.attention_norm(hidden))))
        return hidden + self._drop(self.network(self.network_norm(hidden)))

    def _drop(self, hidden: Tensor) -> Tensor:
        return F.dropout(hidden, self.shape.dropout, self.training)

    def _attend(self, hidden: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        num_heads = self.shape.num_heads
        heads = self.query_key_value(hidden).view(batch, length, 3, num_heads, width // num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        dropout = self.shape.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=self.shape.is_causal)
        return mixed.transpose(1, 2).reshape(batch, length, width)


def init_weights(module: nn.Module) -> None:
    """Set the weights of a layer to small normal numbers and its bias to zero; for ``nn.Module.apply``."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
