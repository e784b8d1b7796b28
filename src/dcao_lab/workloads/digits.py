"""Scikit-learn's digits: 1797 handwritten digits of 8 by 8 pixels, inside the package."""

from collections.abc import Callable
from functools import cache

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.classification import ClassificationWorkload, Split

BATCH_SIZE = 64
SPLIT_SEED = 0  # one split for every run: a seed's spread is then that of training alone


def digits_workload(info: WorkloadInfo, build: Callable[[], nn.Module]) -> ClassificationWorkload:
    """Classification of the digits, in batches of 64, by the network that ``build`` makes."""
    return ClassificationWorkload(info, build, digits_split, BATCH_SIZE)


@cache
def digits_split() -> Split:
    """Training and test images (N, 1, 8, 8) standardised to zero mean and unit variance, and their labels."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target, dtype=torch.long)
    train, test = train_test_split(range(len(labels)), test_size=0.2, random_state=SPLIT_SEED, stratify=labels)
    mean, std = images[train].mean(), images[train].std()
    scaled = (images - mean) / std
    return scaled[train], scaled[test], labels[train], labels[test]
