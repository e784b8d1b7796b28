"""A variational autoencoder of digits (Kingma and Welling 2014): a loss in nats an image that draws its own noise."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, WorkloadInfo
from dcao_lab.workloads.examples import ExampleWorkload, loss_with_fixed_draws
from dcao_lab.workloads.unseen.splits import pixels_alone

LATENT = 8

INFO = WorkloadInfo(
    name="digits_vae",
    title="Digits VAE",
    summary=f"scikit-learn digits, convolutional VAE with {LATENT} latent numbers, negative ELBO, batch 64",
    metric="loss",
    higher_is_better=False,
    target=26.5,
    batch_size=64,
    num_steps=500,
    eval_every=50,
    step_cost=2.0,
)


def build() -> nn.ModuleDict:
    """The encoder, to mean and log variance, and the decoder, to logits of the pixels."""
    down = [nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()]
    encoder = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *down, nn.Flatten(), nn.Linear(128, 2 * LATENT))
    start = [nn.Linear(LATENT, 128), nn.ReLU(), nn.Unflatten(1, (32, 2, 2))]
    up = [nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1)]
    return nn.ModuleDict({"encoder": encoder, "decoder": nn.Sequential(*start, *up, nn.Flatten())})


def negative_elbo(model: nn.Module, batch: Batch, draws: torch.Generator | None = None) -> Tensor:
    """Summed over pixels and latent numbers, and averaged over images."""
    images, _ = batch
    mean, log_variance = model.get_submodule("encoder")(images).chunk(2, 1)
    noise = torch.randn(mean.shape, generator=draws).to(mean.device)
    logits = model.get_submodule("decoder")(mean + noise * (log_variance / 2).exp())
    seen = F.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    loss: Tensor = (seen + divergence) / len(images)
    return loss


metrics = loss_with_fixed_draws(negative_elbo)
WORKLOADS = (ExampleWorkload(info=INFO, build=build, splits=pixels_alone, loss=negative_elbo, metrics=metrics),)
