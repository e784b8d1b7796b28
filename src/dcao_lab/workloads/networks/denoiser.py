"""A network that denoises points of the plane, for diffusion."""

import torch
from torch import Tensor, nn

from dcao_lab.workloads.networks.perceptron import perceptron


class Denoiser(nn.Module):
    """Predicts the noise in points of the plane at a time of the diffusion.

    Args:
        num_times: Number of times.
    """

    def __init__(self, num_times: int) -> None:
        super().__init__()
        self.num_times = num_times
        self.net = perceptron(2 + 32, 128, 128, 128, 2, activation=nn.SiLU)

    def forward(self, points: Tensor, times: Tensor) -> Tensor:
        """Noise (batch, 2) of points (batch, 2) at times (batch)."""
        angles = times[:, None] / self.num_times * torch.logspace(0, 2, 16, device=points.device)
        noise: Tensor = self.net(torch.cat([points, angles.sin(), angles.cos()], 1))
        return noise
