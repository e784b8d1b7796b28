"""The standard augmentations of images, and the conversion of pixels to inputs of a network."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4  # black pixels around a small image before a piece of its size is cut out (He et al. 2016, section 4.2)
NUM_ATTEMPTS = 10  # boxes drawn for a random resized crop before the middle is taken, as in torchvision
AREA = (0.08, 1.0)  # share of the image (Szegedy et al. 2015)
RATIO = (3 / 4, 4 / 3)  # width over height
SIZE = 224
EVALUATION_SIZE = 256  # of the shorter side, before the middle SIZE by SIZE pixels are taken (He et al. 2016)
Box = tuple[int, int, int, int]  # left, upper, right, lower


def crop_and_flip(images: Tensor, draws: torch.Generator) -> Tensor:
    """Images (batch, channels, height, width), each shifted by up to 4 pixels in each direction, half of them mirrored.

    The pixels that are shifted in are zero, which is black in images of bytes.
    """
    number, _, height, width = images.shape
    shifts = torch.randint(2 * PADDING + 1, (2, number, 1), generator=draws)
    is_flipped = torch.rand(number, 1, generator=draws) < 0.5
    rows = shifts[0] + torch.arange(height)
    columns = shifts[1] + torch.arange(width)
    columns = torch.where(is_flipped, columns.flip(1), columns)
    return _gathered(F.pad(images, [PADDING] * 4), rows, columns)


def shifted(images: Tensor, most: int, draws: torch.Generator | None) -> Tensor:
    """Images (batch, channels, height, width), each shifted by up to ``most`` pixels in each direction, zeros added.

    Without ``draws`` the shifts come from torch's global stream.
    """
    number, _, height, width = images.shape
    shifts = torch.randint(2 * most + 1, (2, number, 1), generator=draws)
    rows, columns = shifts[0] + torch.arange(height), shifts[1] + torch.arange(width)
    return _gathered(F.pad(images, [most] * 4), rows, columns)


def _gathered(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of each image at its own rows (batch, height) and columns (batch, width)."""
    which = torch.arange(len(images), device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    rows, columns = rows.to(images.device), columns.to(images.device)
    return images[which, channels, rows[:, None, :, None], columns[:, None, None, :]]


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Bytes as float32, scaled to [0, 1] and then standardised by each channel's mean and standard deviation."""
    shape = (1, -1, 1, 1)
    center, scale = (torch.tensor(values, device=images.device).view(shape) for values in (mean, std))
    return (images.float() / 255.0 - center) / scale


def draw_crops(number: int, draws: torch.Generator) -> Tensor:
    """Uniform numbers (number, attempts, 4) for :func:`random_box`.

    They are drawn in advance, because threads that decode images have no fixed order.
    """
    return torch.rand(number, NUM_ATTEMPTS, 4, generator=draws)


def random_box(width: int, height: int, uniform: Tensor) -> Box:
    """A box of random area and shape inside the image, as in torchvision's ``RandomResizedCrop``."""
    for area, ratio, left, upper in uniform.tolist():
        pixels = (AREA[0] + (AREA[1] - AREA[0]) * area) * width * height
        shape = math.exp(math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * ratio)
        box_width, box_height = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < box_width <= width and 0 < box_height <= height:
            corner = int(left * (width - box_width + 1)), int(upper * (height - box_height + 1))
            return _box(*corner, box_width, box_height)
    box_width = min(width, round(height * RATIO[1]))
    box_height = min(height, round(width / RATIO[0]))
    return _box((width - box_width) // 2, (height - box_height) // 2, box_width, box_height)


def _box(left: int, upper: int, width: int, height: int) -> Box:
    return left, upper, left + width, upper + height


def random_crop(image: Any, uniform: Tensor) -> Tensor:
    """A random box of the PIL image, resized to bytes (3, 224, 224)."""
    # Cut first and then resized, as torchvision does: ``resize(box=...)`` would also use pixels beside the box.
    width, height = image.size
    return to_tensor(image.crop(random_box(width, height, uniform)).convert("RGB").resize((SIZE, SIZE), _bilinear()))


def center_crop(image: Any) -> Tensor:
    """The middle of the PIL image as bytes (3, 224, 224), after its shorter side has been resized to 256."""
    scale = EVALUATION_SIZE / min(image.size)
    width, height = (max(EVALUATION_SIZE, int(side * scale)) for side in image.size)
    left, upper = round((width - SIZE) / 2), round((height - SIZE) / 2)
    resized = image.convert("RGB").resize((width, height), _bilinear())
    return to_tensor(resized.crop(_box(left, upper, SIZE, SIZE)))


def to_tensor(image: Any) -> Tensor:
    """The pixels of a grey or RGB PIL image as bytes (channels, height, width)."""
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, -1).permute(2, 0, 1)


def _bilinear() -> Any:
    from PIL import Image

    return Image.Resampling.BILINEAR
