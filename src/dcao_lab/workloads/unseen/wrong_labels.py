"""A small and dirty training set: 300 digits, few of the higher classes, a fifth of the labels drawn anew.

Accuracy is measured on digits with their true labels, equally many of each class. Long training at a high lr learns
the wrong labels by heart.
"""

from functools import cache

import torch
from torch import nn

from dcao_lab.workloads.base import Splits, WorkloadInfo, with_replacement
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.networks.perceptron import perceptron
from dcao_lab.workloads.unseen.splits import digits, with_held_out

NUM_IMAGES = 300
FREQUENCY_RATIO = 0.775  # of a class to the one before: the last is a tenth of the first
WRONG_SHARE = 0.2
WIDTH = 128

INFO = WorkloadInfo(
    name="wrong_labels",
    title="Wrong labels",
    summary=f"{NUM_IMAGES} scikit-learn digits, uneven classes, a fifth of the labels random, MLP, batch 32",
    target=0.82,
    batch_size=32,
    num_steps=600,
    eval_every=60,
    step_cost=0.6,
)


@cache
def splits() -> Splits:
    """The same wrong labels for every seed."""
    (images, labels), held_out = digits()["train"], digits()["test"]
    draws = torch.Generator().manual_seed(7)
    chosen = torch.multinomial(FREQUENCY_RATIO ** labels.float(), NUM_IMAGES, generator=draws)
    images, labels = images[chosen], labels[chosen]
    is_wrong = torch.rand(NUM_IMAGES, generator=draws) < WRONG_SHARE
    labels[is_wrong] = torch.randint(0, 10, (int(is_wrong.sum()),), generator=draws)
    return with_held_out((images, labels), held_out)


def build() -> nn.Module:
    """Two hidden layers of 128: 26 122 parameters."""
    return perceptron(64, WIDTH, WIDTH, 10)


WORKLOADS = (ClassificationWorkload(INFO, build, splits, draw=with_replacement),)
