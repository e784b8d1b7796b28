import math

import pytest
import torch
from PIL import Image

from dcao_lab.workloads.base import generator
from dcao_lab.workloads.data.augment import (
    center_crop,
    crop_and_flip,
    draw_crops,
    normalised,
    random_box,
    random_crop,
)

NUM_IMAGES = 4000


def patterns(number=1):
    """The same image of distinct pixels, so that its shift and direction can be read from any result."""
    return torch.arange(1, 1 + 3 * 8 * 8, dtype=torch.uint8).view(1, 3, 8, 8).expand(number, -1, -1, -1)


def every_crop():
    """All results that are allowed, by slices: 9 by 9 shifts, each mirrored or not."""
    padded = torch.zeros(3, 16, 16, dtype=torch.uint8)
    padded[:, 4:12, 4:12] = patterns()[0]
    crops = [padded[:, row : row + 8, column : column + 8] for row in range(9) for column in range(9)]
    return torch.stack([variant for crop in crops for variant in (crop, crop.flip(2))])


def counts_of_crops(seed=0):
    """How often each of the allowed results came, as (shift down, shift right, mirrored)."""
    crops = crop_and_flip(patterns(NUM_IMAGES), generator(seed, purpose=3))
    matches = (crops.flatten(1)[:, None] == every_crop().flatten(1)).all(dim=2)
    assert (matches.sum(dim=1) == 1).all()  # each is exactly one of them
    return matches.sum(dim=0).view(9, 9, 2)


def test_a_crop_is_an_exact_shift_with_black_around_mirrored_or_not():
    assert counts_of_crops().sum() == NUM_IMAGES


def test_half_of_the_images_are_mirrored():
    mirrored = int(counts_of_crops()[:, :, 1].sum())
    assert abs(mirrored - NUM_IMAGES / 2) < 4 * math.sqrt(NUM_IMAGES / 4)  # four standard deviations of a binomial


@pytest.mark.parametrize("direction", [0, 1])
def test_every_shift_is_as_likely(direction):
    shifts = counts_of_crops().sum(dim=2).sum(dim=1 - direction)
    expected = NUM_IMAGES / 9
    assert (abs(shifts - expected) < 4 * math.sqrt(expected * 8 / 9)).all()


def test_the_images_of_a_batch_are_cropped_independently_and_the_generator_decides_how():
    one, two, other = (crop_and_flip(patterns(20), generator(seed, purpose=3)) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert len(torch.unique(one.flatten(1), dim=0)) > 10


def test_cropping_leaves_the_images_themselves_alone():
    images = patterns().clone()
    crop_and_flip(images, generator(0, purpose=3))
    assert torch.equal(images, patterns())


def test_normalised_pixels_are_shares_of_white_less_the_mean_over_the_standard_deviation():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1)
    result = normalised(images, mean=(0.25, 0.5), std=(0.5, 0.25))
    assert result.flatten().tolist() == [-0.5, 2.0]


@pytest.mark.parametrize(("width", "height"), [(500, 375), (300, 300), (64, 512), (7, 5)])
def test_a_random_box_is_inside_the_image_and_of_the_allowed_area_and_shape(width, height):
    for uniform in draw_crops(300, generator(0, purpose=3)):
        left, upper, right, lower = random_box(width, height, uniform)
        box_width, box_height = right - left, lower - upper
        assert 0 <= left < right <= width
        assert 0 <= upper < lower <= height
        # Sides are rounded to whole pixels, each by half of one at most.
        assert (box_width + 0.5) * (box_height + 0.5) >= 0.08 * width * height or box_width == width
        assert (box_width + 0.5) / (box_height - 0.5) >= 3 / 4
        assert (box_width - 0.5) / (box_height + 0.5) <= 4 / 3


def test_the_area_of_a_random_box_is_uniform_between_8_and_100_percent():
    # Below 3/4 of a square image the box fits whatever its shape, so that none is drawn anew.
    boxes = [random_box(1000, 1000, uniform) for uniform in draw_crops(4000, generator(0, purpose=3))]
    areas = torch.tensor([(right - left) * (lower - upper) / 1e6 for left, upper, right, lower in boxes])
    low, middle = ((areas > edge) & (areas < edge + 0.3) for edge in (0.1, 0.4))
    numbers = low.sum().item(), middle.sum().item()
    assert abs(numbers[0] - numbers[1]) < 4 * math.sqrt(sum(numbers))  # two equal shares of a multinomial


def test_an_image_into_which_no_box_fits_gives_its_middle():
    always_too_wide = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(10, 4)
    assert random_box(10, 1000, always_too_wide) == (0, 493, 10, 506)  # 10 wide, 10 * 4 / 3 high
    assert random_box(1000, 12, always_too_wide * 0.99) == (492, 0, 508, 12)


def test_a_random_crop_is_the_box_resized():
    image = Image.effect_mandelbrot((300, 280), (-2, -1.5, 1, 1.5), 100)
    uniform = draw_crops(1, generator(0, purpose=3))[0]
    expected = image.crop(random_box(300, 280, uniform)).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    crop = random_crop(image, uniform)
    assert crop.shape == (3, 224, 224)
    assert crop.permute(1, 2, 0).contiguous().numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [(256, 256), (512, 300), (300, 640), (100, 100), (257, 256)])
def test_the_center_crop_is_224_pixels_of_the_middle(size):
    ramp = Image.linear_gradient("L").resize(size)
    crop = center_crop(ramp)
    assert crop.shape == (3, 224, 224)
    # From black above to white below: what is cut off above and below is the same, so the mean is the middle grey.
    assert crop.float().mean().item() == pytest.approx(127.5, abs=1.0)


def test_of_a_square_image_of_256_pixels_the_center_crop_leaves_16_at_each_side_out():
    ramp = Image.linear_gradient("L")
    assert center_crop(ramp)[0, :, 0].tolist() == list(range(16, 240))
