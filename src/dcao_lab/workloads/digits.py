"""Scikit-learn's digits: 1797 handwritten digits of 8 by 8 pixels, inside the package."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from dcao_lab.workloads.base import Problem, WorkloadInfo, build_seeded, generator, shuffled_batches

BATCH_SIZE = 64
SPLIT_SEED = 0  # one split for every run: a seed's spread is then that of training alone


@dataclass(frozen=True)
class DigitsWorkload:
    """Classification of the digits by the network that ``build`` makes."""

    info: WorkloadInfo
    build: Callable[[], nn.Module]

    def start(self, seed: int) -> Problem:
        """Fresh weights, and batches of 64 in an order of their own."""
        train_x, test_x, train_y, test_y = digits_split()
        model = build_seeded(self.build, seed)
        return Problem(
            model=model,
            batches=shuffled_batches(train_x, train_y, BATCH_SIZE, generator(seed, purpose=1)),
            loss=lambda batch: F.cross_entropy(model(batch[0]), batch[1]),
            evaluate=lambda: classification_metrics(model, test_x, test_y),
        )


@cache
def digits_split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images (N, 1, 8, 8) standardised to zero mean and unit variance, and their labels."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target, dtype=torch.long)
    train, test = train_test_split(range(len(labels)), test_size=0.2, random_state=SPLIT_SEED, stratify=labels)
    mean, std = images[train].mean(), images[train].std()
    scaled = (images - mean) / std
    return scaled[train], scaled[test], labels[train], labels[test]


def classification_metrics(model: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, float]:
    """Mean cross-entropy and the share of right answers."""
    logits = model(inputs)
    return {
        "test_loss": F.cross_entropy(logits, labels).item(),
        "accuracy": (logits.argmax(dim=1) == labels).float().mean().item(),
    }
