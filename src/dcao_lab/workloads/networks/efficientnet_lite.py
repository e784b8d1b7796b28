"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation and with ReLU6), for its ImageNet weights.

The layers are those of the PyTorch port ``efficientnet-lite-pytorch``, whose weights fit by name; its stochastic depth
is left out. https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite has the original.
"""

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPSILON, NORM_MOMENTUM = 1e-3, 0.01  # of the port
STEM, FEATURES = 32, 1280
STAGES = (  # number of blocks, kernel size, stride of the first, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """A classifier of images (batch, 3, height, width) of any size; 4 652 008 parameters for 1000 classes.

    Args:
        num_classes: Number of logits.
        dropout: Dropout rate of the features.
    """

    def __init__(self, num_classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, STEM, kernel_size=3, stride=2)
        self.bn0 = _norm(STEM)
        self.blocks = nn.Sequential(*_blocks())
        self.conv_head = SameConv2d(STAGES[-1][-1], FEATURES, kernel_size=1)
        self.bn1 = _norm(FEATURES)
        self.dropout = dropout
        self.fc = nn.Linear(FEATURES, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """The logits (batch, classes)."""
        features: Tensor = self.blocks(F.relu6(self.bn0(self.conv_stem(images))))
        features = F.relu6(self.bn1(self.conv_head(features))).mean(dim=(2, 3))
        logits: Tensor = self.fc(F.dropout(features, self.dropout, self.training))
        return logits


class InvertedResidual(nn.Module):
    """More channels by a 1 by 1 convolution, a convolution within each, and back to few (Sandler et al. 2018).

    Args:
        width_before: Channels of its input.
        width: Channels of its output.
        expansion: Channels inside, in multiples of ``width_before``.
        kernel_size: Of the convolution within each channel.
        stride: Of that convolution.
    """

    def __init__(self, width_before: int, width: int, *, expansion: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        inner = expansion * width_before
        self.has_expansion = expansion != 1
        if self.has_expansion:
            self.expand_conv = SameConv2d(width_before, inner, kernel_size=1)
            self.bn0 = _norm(inner)
        self.depthwise_conv = SameConv2d(inner, inner, kernel_size=kernel_size, stride=stride, groups=inner)
        self.bn1 = _norm(inner)
        self.project_conv = SameConv2d(inner, width, kernel_size=1)
        self.bn2 = _norm(width)
        self.has_shortcut = stride == 1 and width == width_before

    def forward(self, features: Tensor) -> Tensor:
        """The features after this block."""
        wide = F.relu6(self.bn0(self.expand_conv(features))) if self.has_expansion else features
        wide = F.relu6(self.bn1(self.depthwise_conv(wide)))
        narrow: Tensor = self.bn2(self.project_conv(wide))
        return narrow + features if self.has_shortcut else narrow


class SameConv2d(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow does: an odd pixel goes to the right and below."""

    def __init__(self, width_before: int, width: int, *, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(width_before, width, kernel_size, stride=stride, groups=groups, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """The features after this layer, as many pixels as steps of the stride fit in."""
        height, width = (
            _padding(size, kernel, step)
            for size, kernel, step in zip(features.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        return super().forward(F.pad(features, (*width, *height)))


def _padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    total = max((math.ceil(size / stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)


def _blocks() -> list[InvertedResidual]:
    shapes = [
        (width, expansion, kernel_size, stride if place == 0 else 1)
        for number, kernel_size, stride, expansion, width in STAGES
        for place in range(number)
    ]
    widths = [STEM, *(shape[0] for shape in shapes)]
    return [
        InvertedResidual(before, width, expansion=expansion, kernel_size=kernel_size, stride=stride)
        for (before, _), (width, expansion, kernel_size, stride) in zip(itertools.pairwise(widths), shapes, strict=True)
    ]
