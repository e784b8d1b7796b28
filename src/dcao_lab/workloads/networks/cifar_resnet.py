"""The residual networks for CIFAR of He et al. 2016 ("Deep Residual Learning for Image Recognition", section 4.2).

They are 50 times smaller than the ResNets for ImageNet, which ``transformers`` has, and other networks.
"""

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64)  # channels of the three stages, whose images have 32, 16 and 8 pixels a side


class CifarResNet(nn.Module):
    """A 3 by 3 convolution, three stages of basic blocks, and a linear layer on the mean over the pixels.

    With ``blocks`` n it has 6 n + 2 layers: 3 blocks make ResNet-20, which has 269 722 parameters for 10 classes.

    Args:
        blocks: Number of blocks in each stage.
        num_classes: Number of logits.
    """

    def __init__(self, blocks: int, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTHS[0])
        widths = [WIDTHS[0], *(width for width in WIDTHS for _ in range(blocks))]
        self.blocks = nn.Sequential(*map(BasicBlock, widths[:-1], widths[1:]))
        self.head = nn.Linear(WIDTHS[-1], num_classes)
        self.apply(_init_weights)

    def forward(self, images: Tensor) -> Tensor:
        """The logits (batch, classes) of images (batch, 3, height, width)."""
        features: Tensor = self.blocks(F.relu(self.norm(self.stem(images))))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3 by 3 convolutions with BatchNorm beside a shortcut without parameters (option A of the paper).

    Where a block has more channels than it is given, its first convolution and its shortcut take every other pixel,
    and the shortcut's new channels are zero.

    Args:
        width_before: Channels of its input.
        width: Channels of its output.
    """

    def __init__(self, width_before: int, width: int) -> None:
        super().__init__()
        self.stride = 1 if width == width_before else 2
        self.new_channels = width - width_before
        self.first = nn.Conv2d(width_before, width, kernel_size=3, stride=self.stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        """The features after this block."""
        inner = F.relu(self.first_norm(self.first(features)))
        inner = self.second_norm(self.second(inner))
        return F.relu(inner + self._shortcut(features))

    def _shortcut(self, features: Tensor) -> Tensor:
        if self.stride == 1:
            return features
        return F.pad(features[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


def _init_weights(module: nn.Module) -> None:
    """He et al. 2015, as the paper says; BatchNorm and the linear layer have torch's own."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
