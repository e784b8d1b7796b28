"""Digits with a ViT (Dosovitskiy et al. 2021) in batches of 333: few steps, and little noise in them."""

import torch
from torch import Tensor, nn

from dcao_lab.workloads.base import WorkloadInfo, with_replacement
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.networks.patches import NUM_PATCHES, PATCH_PIXELS, patches
from dcao_lab.workloads.networks.transformer import INIT_STD, TransformerBlock, TransformerShape
from dcao_lab.workloads.unseen.splits import digits

SHAPE = TransformerShape(width=24, num_heads=4, num_layers=2, is_causal=False)

INFO = WorkloadInfo(
    name="vit_333",
    title="ViT, batch 333",
    summary=f"scikit-learn digits, ViT of 2 layers, width {SHAPE.width}, patches of 2 by 2, batch 333",
    target=0.82,
    batch_size=333,
    num_steps=200,
    eval_every=20,
    step_cost=23.0,
)


class ViT(nn.Module):
    """Pre-norm encoder with torch's own initial weights; the classifier gets the mean over patches."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH_PIXELS, SHAPE.width)
        self.positions = nn.Parameter(INIT_STD * torch.randn(NUM_PATCHES, SHAPE.width))
        self.blocks = nn.Sequential(*(TransformerBlock(SHAPE) for _ in range(SHAPE.num_layers)))
        self.norm = nn.LayerNorm(SHAPE.width)
        self.head = nn.Linear(SHAPE.width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, 10) of images (batch, 64)."""
        hidden = self.blocks(self.embed(patches(images)) + self.positions)
        logits: Tensor = self.head(self.norm(hidden).mean(1))
        return logits


WORKLOADS = (ClassificationWorkload(INFO, ViT, digits, draw=with_replacement),)
