"""Denoising diffusion (Ho et al. 2020) on two moons: the loss draws times and noise, and is measured on fixed ones."""

from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Splits, WorkloadInfo
from dcao_lab.workloads.examples import ExampleWorkload, loss_with_fixed_draws
from dcao_lab.workloads.networks.denoiser import Denoiser
from dcao_lab.workloads.unseen.splits import with_held_out

NUM_TIMES = 100
NUM_POINTS, NUM_TRAIN = 6000, 5000
KEPT = torch.cumprod(1 - torch.linspace(1e-3, 0.1, NUM_TIMES), 0)  # share of a point's variance at each time

INFO = WorkloadInfo(
    name="diffusion",
    title="Diffusion",
    summary=f"two moons of {NUM_TRAIN} points, denoiser with three hidden layers of 128, batch 128",
    metric="loss",
    higher_is_better=False,
    target=0.39,
    batch_size=128,
    num_steps=800,
    eval_every=80,
    step_cost=0.9,
)


@cache
def splits() -> Splits:
    """Standardised points, which are their own targets."""
    from sklearn.datasets import make_moons

    points = torch.tensor(make_moons(NUM_POINTS, noise=0.05, random_state=0)[0], dtype=torch.float32)
    points = (points - points.mean(0)) / points.std(0)
    train, held_out = points[:NUM_TRAIN], points[NUM_TRAIN:]
    return with_held_out((train, train), (held_out, held_out))


def error(model: nn.Module, batch: Batch, draws: torch.Generator | None = None) -> Tensor:
    """Mean squared error of the predicted noise."""
    points, _ = batch
    times = torch.randint(0, NUM_TIMES, (len(points),), generator=draws)
    noise, kept = torch.randn(points.shape, generator=draws).to(points.device), KEPT[times][:, None].to(points.device)
    return F.mse_loss(model(kept.sqrt() * points + (1 - kept).sqrt() * noise, times.to(points.device)), noise)


def metrics(model: nn.Module, batch: Batch) -> dict[str, float]:
    """``loss``, of four fixed times and noises a point."""
    return loss_with_fixed_draws(error)(model, (batch[0].repeat(4, 1), batch[1]))


build = partial(Denoiser, NUM_TIMES)
WORKLOADS = (ExampleWorkload(info=INFO, build=build, splits=splits, loss=error, metrics=metrics),)
