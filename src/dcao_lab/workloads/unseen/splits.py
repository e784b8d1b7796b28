"""Splits of data with one set of held-out examples, and the digits split so."""

from functools import cache
from typing import Any

import torch

from dcao_lab.workloads.base import Batch, Splits

NUM_TRAIN_DIGITS = 1400


def with_held_out(train: Batch, held_out: Batch) -> Splits:
    """The splits; validation and test are the same."""
    return {"train": train, "validation": held_out, "test": held_out}


def shuffled_splits(inputs: torch.Tensor, targets: torch.Tensor, num_train: int) -> Splits:
    """The first ``num_train`` of the examples in an order that is always the same, and the rest as held-out ones."""
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    inputs, targets = inputs[order], targets[order]
    return with_held_out((inputs[:num_train], targets[:num_train]), (inputs[num_train:], targets[num_train:]))


def standardised(columns: Any) -> torch.Tensor:
    """The columns of a table (rows, columns) with mean 0 and variance 1 over all rows, in float32."""
    return torch.tensor((columns - columns.mean(0)) / columns.std(0), dtype=torch.float32)


@cache
def digits() -> Splits:
    """Scikit-learn's digits as rows of 64 pixels from 0 to 1, with their labels: 1400 for training, 397 held out."""
    from sklearn.datasets import load_digits  # here, because it doubles the time in which a worker process starts

    data = load_digits()
    return shuffled_splits(
        torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target), NUM_TRAIN_DIGITS
    )


def pixels_alone() -> Splits:
    """The digits with their own pixels as targets."""
    return {name: (pixels, pixels) for name, (pixels, _) in digits().items()}
