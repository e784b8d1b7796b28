"""Images of 8 by 8 pixels as sequences of small patches."""

from torch import Tensor

NUM_PATCHES = 16
PATCH_PIXELS = 4


def patches(images: Tensor) -> Tensor:
    """The 16 patches (batch, 16, 4) of 2 by 2 pixels of images (batch, 64), row by row."""
    return images.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, NUM_PATCHES, PATCH_PIXELS)
