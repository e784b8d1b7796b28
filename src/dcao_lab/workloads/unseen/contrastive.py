"""Contrastive learning without labels (SimCLR, Chen et al. 2020) on digits, measured by its loss on held-out ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, WorkloadInfo
from dcao_lab.workloads.data.augment import shifted
from dcao_lab.workloads.examples import ExampleWorkload, loss_with_fixed_draws
from dcao_lab.workloads.networks.perceptron import perceptron
from dcao_lab.workloads.unseen.splits import pixels_alone

BATCH_SIZE, TEMPERATURE, NOISE = 64, 0.5, 0.2

INFO = WorkloadInfo(
    name="digits_contrastive",
    title="Digits contrastive",
    summary=f"scikit-learn digits, SimCLR with shifts and noise, MLP, temperature {TEMPERATURE}, batch {BATCH_SIZE}",
    metric="loss",
    higher_is_better=False,
    target=5.53,
    batch_size=BATCH_SIZE,
    num_steps=500,
    eval_every=50,
    step_cost=1.0,
)


def build() -> nn.Module:
    """An encoder of one hidden layer, and a projection to 32 features: 23 808 parameters."""
    return perceptron(64, 128, 96, 32)


def view(images: Tensor, draws: torch.Generator | None) -> Tensor:
    """Each image (batch, 64) shifted by up to one pixel both ways, with noise."""
    moved = shifted(images.view(-1, 1, 8, 8), 1, draws).flatten(1)
    return moved + NOISE * torch.randn(moved.shape, generator=draws).to(moved.device)


def contrastive_loss(model: nn.Module, batch: Batch, draws: torch.Generator | None = None) -> Tensor:
    """Cross-entropy of finding the other view of an image among all views of the batch (NT-Xent)."""
    images, _ = batch
    features = F.normalize(model(torch.cat([view(images, draws), view(images, draws)])), dim=1)
    is_itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    similar = (features @ features.T / TEMPERATURE).masked_fill(is_itself, -torch.inf)
    return F.cross_entropy(similar, torch.arange(len(features), device=features.device).roll(len(images)))


metrics = loss_with_fixed_draws(contrastive_loss)
WORKLOADS = (ExampleWorkload(info=INFO, build=build, splits=pixels_alone, loss=contrastive_loss, metrics=metrics),)
