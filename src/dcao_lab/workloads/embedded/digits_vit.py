"""Digits with a tiny Vision Transformer (Dosovitskiy et al. 2021) that has fused attention.

As in "Better plain ViT baselines" (Beyer et al. 2022), the classifier gets the mean over patches and not a class token.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.embedded.digits import BATCH_SIZE, digits_splits
from dcao_lab.workloads.networks.transformer import TransformerBlock, TransformerShape, init_weights

IMAGE_SIZE = 8
PATCH_SIZE = 2
NUM_PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2

INFO = WorkloadInfo(
    name="digits_vit",
    title="Digits ViT",
    summary=f"scikit-learn digits, ViT of 2 layers, width 32, patches of 2 by 2, batch {BATCH_SIZE}",
    target=0.93,
    batch_size=BATCH_SIZE,
    num_steps=1000,
    eval_every=50,
    step_cost=7.0,
)


class ViT(nn.Module):
    """Pre-norm Transformer encoder with learned positions: 26 474 parameters."""

    def __init__(self) -> None:
        super().__init__()
        shape = TransformerShape(is_causal=False)
        self.patches = nn.Linear(PATCH_SIZE**2, shape.width)
        self.positions = nn.Embedding(NUM_PATCHES, shape.width)
        self.blocks = nn.Sequential(*(TransformerBlock(shape) for _ in range(shape.num_layers)))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, 10)
        self.apply(init_weights)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, 10) of images (batch, 1, 8, 8)."""
        pixels = F.unfold(images, PATCH_SIZE, stride=PATCH_SIZE).transpose(1, 2)  # (batch, patches, pixels of each)
        hidden = self.patches(pixels) + self.positions.weight
        logits: Tensor = self.head(self.norm(self.blocks(hidden)).mean(dim=1))
        return logits


WORKLOADS = (ClassificationWorkload(INFO, ViT, digits_splits),)
