"""Digits with a residual network that has BatchNorm: the ResNet-8 of the CIFAR-10 family of He et al. 2016.

The networks of that family have 6 n + 2 layers: a 3 by 3 stem and three stages of n blocks with 16, 32 and 64 channels;
here n is 1. Shortcuts that change the shape are 1 by 1 convolutions (option B of the paper).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.embedded.digits import BATCH_SIZE, digits_splits

INFO = WorkloadInfo(
    name="digits_resnet",
    title="Digits ResNet",
    summary=f"scikit-learn digits, ResNet-8 with BatchNorm, batch {BATCH_SIZE}",
    target=0.98,
    batch_size=BATCH_SIZE,
    num_steps=500,
    eval_every=25,
    step_cost=12.0,
)


def build() -> nn.Module:
    """Stem, three residual blocks, the mean over pixels and a linear classifier: 77 754 parameters."""
    return nn.Sequential(
        convolution(1, 16, stride=1),
        nn.ReLU(),
        ResidualBlock(16, 16, stride=1),
        ResidualBlock(16, 32, stride=2),
        ResidualBlock(32, 64, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


class ResidualBlock(nn.Module):
    """Two 3 by 3 convolutions with BatchNorm, and a shortcut around them."""

    def __init__(self, num_inputs: int, num_outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(num_inputs, num_outputs, stride)
        self.second = convolution(num_outputs, num_outputs, stride=1)
        has_new_shape = stride != 1 or num_inputs != num_outputs
        self.shortcut = convolution(num_inputs, num_outputs, stride, size=1) if has_new_shape else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """The images (batch, channels, height, width) after this block."""
        return F.relu(self.second(F.relu(self.first(images))) + self.shortcut(images))


def convolution(num_inputs: int, num_outputs: int, stride: int, size: int = 3) -> nn.Module:
    """A padded convolution, which changes the size of an image by its stride alone, with BatchNorm and no bias."""
    return nn.Sequential(
        nn.Conv2d(num_inputs, num_outputs, size, stride=stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(num_outputs),
    )


WORKLOADS = (ClassificationWorkload(INFO, build, digits_splits),)
