"""The ResNet and ViT of ``transformers`` with new weights, as modules from images to logits."""

from typing import Any

from torch import Tensor, nn

from dcao_lab.workloads.data.folders import extra

RESNETS: dict[int, dict[str, Any]] = {  # He et al. 2016, table 1
    18: {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
    34: {"layer_type": "basic", "depths": [3, 4, 6, 3], "hidden_sizes": [64, 128, 256, 512]},
    50: {"layer_type": "bottleneck", "depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]},
}


class Logits(nn.Module):
    """A classifier of ``transformers`` that returns its logits alone.

    Attributes:
        network: The classifier.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """The logits (batch, classes) of images (batch, channels, height, width)."""
        logits: Tensor = self.network(pixel_values=images).logits
        return logits


def build_resnet(num_layers: int, num_classes: int, **changes: Any) -> nn.Module:
    """A ResNet for images of 224 by 224 pixels; a bottleneck has its stride in the 3 by 3 convolution.

    Args:
        num_layers: 18, 34 or 50.
        num_classes: Number of logits.
        changes: Entries of the configuration to replace, for example for a smaller network.
    """
    transformers = extra("transformers", "ResNet")
    config = transformers.ResNetConfig(num_labels=num_classes, **{**RESNETS[num_layers], **changes})
    return Logits(transformers.ResNetForImageClassification(config))


def build_small_image_resnet(num_layers: int, num_classes: int, **changes: Any) -> nn.Module:
    """A ResNet for images of 32 by 32 pixels, with a 3 by 3 stem of stride 1 and no pooling, which keep that size.

    The stem of ``transformers``' ResNet (7 by 7 with stride 2, and a pooling) has no switch. Its convolution is
    replaced by a small one with the same kind of initial weights, and its pooling by the identity. Arguments are as for
    :func:`build_resnet`.
    """
    model = build_resnet(num_layers, num_classes, **changes)
    stem = model.get_submodule("network.resnet.embedder")
    old = stem.get_submodule("embedder.convolution")
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(old.in_channels, old.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    stem.get_submodule("embedder").convolution = new
    stem.pooler = nn.Identity()
    return model


def build_vit(num_classes: int, **shape: Any) -> nn.Module:
    """A Vision Transformer; ``shape`` replaces entries of the configuration of ViT-Base with 16 by 16 patches."""
    transformers = extra("transformers", "ViT")
    return Logits(transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=num_classes, **shape)))
