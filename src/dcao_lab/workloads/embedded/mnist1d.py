"""MNIST-1D: ten digits as one-dimensional curves with random disturbances, 4000 for training and 1000 for testing.

The data is generated here, after Greydanus and Kobak, "Scaling Down Deep Learning with MNIST-1D" (arXiv 2011.14439).

As in the paper, each digit has a template, which is padded, stretched, scaled, translated in a circle, surrounded by
correlated noise, covered with white noise, sheared, and resampled to 40 points; there are 500 examples of each digit.

The text of the paper does not have the heights of the templates, the magnitudes below, the order of the steps, nor that
training and test signals are standardised together. These are the defaults of the data set that its authors publish
(github.com/greydanus/mnist1d, Apache-2.0), and we infer that the paper used them.

The program is our own, and so is the order in which random numbers are drawn (all of a class at once). So the examples
differ from those of the published file, but have the same distribution: the paper's networks reach 93 % (convolutions)
and 65 % (fully connected) in 4000 steps of Adam at 0.01, where the paper has 94 % and 68 %.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from dcao_lab.workloads.base import Batch, SplitName, Splits

Array = NDArray[np.float64]

BATCH_SIZE = 100  # as in the training of the authors
DATA_SEED = 42  # one data set for every run, so that runs differ by their training alone
NUM_PER_CLASS = 500
NUM_TRAIN = 4000  # as in the paper; the last of them are used for validation
NUM_VALIDATION = 1000
TEMPLATE_LENGTH = 12
PADDING = (36, 60)  # points after the template, both ends included
STRETCHED_LENGTH = TEMPLATE_LENGTH + PADDING[1]
LENGTH = 40
SCALE_RANGE = 0.4  # heights are multiplied by 0.8 to 1.2
NUM_TRANSLATIONS = 48  # points to the right: 0 to 47
CORRELATED_NOISE = 0.25  # standard deviation before smoothing
CORRELATION_WIDTH = 2.0  # standard deviation of the smoothing Gaussian, in points
WHITE_NOISE = 0.02
SHEAR_RANGE = 0.75  # the slope over the whole length is -0.375 to 0.375
TEMPLATE_SCALE = 1 / 6  # height of one standard deviation of a template

TEMPLATE_HEIGHTS = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)


@cache
def mnist1d_splits() -> Splits:
    """Signals (N, 1, 40) in float32, and labels; the last 1000 of the paper's training data are for validation."""
    inputs, targets = mnist1d_data()
    cuts = [NUM_TRAIN - NUM_VALIDATION, NUM_VALIDATION, len(inputs) - NUM_TRAIN]
    names: tuple[SplitName, ...] = ("train", "validation", "test")
    examples = zip(torch.split(inputs, cuts), torch.split(targets, cuts), strict=True)
    return dict(zip(names, examples, strict=True))


@cache
def mnist1d_data() -> Batch:
    """All signals, standardised together as the paper does, and their labels, in the order of the splits."""
    random = np.random.RandomState(DATA_SEED)  # its stream never changes between versions, unlike that of Generator
    signals = np.concatenate([disturbed(template, random) for template in templates()])
    labels = np.repeat(np.arange(len(TEMPLATE_HEIGHTS)), NUM_PER_CLASS)
    order = random.permutation(len(labels))
    inputs = torch.tensor((signals - signals.mean()) / signals.std(), dtype=torch.float32).unsqueeze(1)[order]
    targets = torch.tensor(labels, dtype=torch.long)[order]
    return inputs, targets


def templates() -> Array:
    """The ten curves (10, 12), which start and end at zero and have equal standard deviations."""
    heights = np.array(TEMPLATE_HEIGHTS)
    curves: Array = TEMPLATE_SCALE * (heights - heights[:, :1]) / heights.std(axis=1, keepdims=True)
    return curves


def disturbed(template: Array, random: np.random.RandomState) -> Array:
    """The 500 examples (500, 40) of a class with this template, before they are standardised."""
    lengths = TEMPLATE_LENGTH + random.randint(PADDING[0], PADDING[1] + 1, size=(NUM_PER_CLASS, 1))
    scales = 1 + SCALE_RANGE * (random.uniform(size=(NUM_PER_CLASS, 1)) - 0.5)
    shifts = random.randint(NUM_TRANSLATIONS, size=(NUM_PER_CLASS, 1))
    shears = SHEAR_RANGE * (random.uniform(size=(NUM_PER_CLASS, 1)) - 0.5)
    noise = random.standard_normal((2, NUM_PER_CLASS, STRETCHED_LENGTH))

    points = (np.arange(STRETCHED_LENGTH) - shifts) % STRETCHED_LENGTH  # positions before the translation
    positions = points / (STRETCHED_LENGTH - 1) * (lengths - 1)  # and before the stretching of the padded template
    curves = scales * np.interp(positions, np.arange(TEMPLATE_LENGTH), template, right=0.0)
    background = gaussian_filter1d(CORRELATED_NOISE * noise[0], CORRELATION_WIDTH, axis=1)
    noisy = np.where(positions < TEMPLATE_LENGTH, curves, background) + WHITE_NOISE * noise[1]
    sheared = noisy - shears * np.linspace(-0.5, 0.5, STRETCHED_LENGTH)
    return resampled(sheared)


def resampled(signals: Array) -> Array:
    """The signals at 40 evenly spaced points, by linear interpolation."""
    old, new = np.linspace(0, 1, signals.shape[1]), np.linspace(0, 1, LENGTH)
    return np.stack([np.interp(new, old, signal) for signal in signals])
