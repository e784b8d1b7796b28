"""Digits with an MLP-Mixer (Tolstikhin et al. 2021) in batches of 7: gradients that are nearly all noise."""

from torch import Tensor, nn

from dcao_lab.workloads.base import WorkloadInfo, with_replacement
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.networks.patches import NUM_PATCHES, PATCH_PIXELS, patches
from dcao_lab.workloads.networks.perceptron import perceptron
from dcao_lab.workloads.unseen.splits import digits

WIDTH = 32
NUM_BLOCKS = 2

INFO = WorkloadInfo(
    name="mixer_7",
    title="Mixer, batch 7",
    summary=f"scikit-learn digits, MLP-Mixer of {NUM_BLOCKS} blocks, width {WIDTH}, patches of 2 by 2, batch 7",
    target=0.89,
    batch_size=7,
    num_steps=700,
    eval_every=70,
    step_cost=1.5,
)


class Mixer(nn.Module):
    """Blocks that mix patches, then channels, each with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH_PIXELS, WIDTH)
        self.head = nn.Linear(WIDTH, 10)
        self.norm = nn.LayerNorm(WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2 * NUM_BLOCKS))
        self.of_patches = nn.ModuleList(
            perceptron(NUM_PATCHES, 32, NUM_PATCHES, activation=nn.GELU) for _ in range(NUM_BLOCKS)
        )
        self.of_channels = nn.ModuleList(perceptron(WIDTH, 64, WIDTH, activation=nn.GELU) for _ in range(NUM_BLOCKS))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, 10) of images (batch, 64)."""
        hidden = self.embed(patches(images))
        for index, (of_patches, of_channels) in enumerate(zip(self.of_patches, self.of_channels, strict=True)):
            hidden = hidden + of_patches(self.norms[2 * index](hidden).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + of_channels(self.norms[2 * index + 1](hidden))
        logits: Tensor = self.head(self.norm(hidden).mean(1))
        return logits


WORKLOADS = (ClassificationWorkload(INFO, Mixer, digits, draw=with_replacement),)
