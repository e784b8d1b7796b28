"""Scikit-learn's digits: 1797 handwritten digits of 8 by 8 pixels that come with the package."""

from collections.abc import Sequence
from functools import cache

import torch

from dcao_lab.workloads.base import Splits

BATCH_SIZE = 64
SPLIT_SEED = 0  # one split for every run, so that runs differ by their training alone


@cache
def digits_splits() -> Splits:
    """Images (N, 1, 8, 8), standardised by the training images, and labels; splits have 60, 20 and 20 % of a class."""
    from sklearn.datasets import load_digits  # here, because it doubles the time in which a worker process starts

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target, dtype=torch.long)
    rest, test = _stratified(range(len(labels)), labels, 0.2)
    train, validation = _stratified(rest, labels, 0.25)
    mean, std = images[train].mean(), images[train].std()
    scaled = (images - mean) / std
    return {
        "train": (scaled[train], labels[train]),
        "validation": (scaled[validation], labels[validation]),
        "test": (scaled[test], labels[test]),
    }


def _stratified(indices: Sequence[int], labels: torch.Tensor, share: float) -> tuple[list[int], list[int]]:
    from sklearn.model_selection import train_test_split

    chosen = labels[list(indices)]
    kept, held_out = train_test_split(list(indices), test_size=share, random_state=SPLIT_SEED, stratify=chosen)
    return kept, held_out
