"""Full-batch training of a tanh network on a fixed part of the digits, as on the Edge of Stability.

After Cohen et al. 2021, "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability": two hidden
layers of 200 tanh units and PyTorch's initial weights, every step on the same training set. They take 5000 images of
CIFAR-10; here they are 1000 digits, so that a step takes milliseconds.

What gradient descent without momentum does here (seed 0): with the squared loss and lr 0.2 the sharpness rises from 6.4
to the edge of 10 in about 100 steps and stays 1 to 8 % above it. Cross-entropy at lr 1 takes it from 0.65 past the edge
of 2 in ten steps, and lets it fall once the digits are fitted, as they say cross-entropy does.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Problem, WorkloadInfo, build_seeded
from dcao_lab.workloads.classification import classification_metrics
from dcao_lab.workloads.digits import digits_split

NUM_IMAGES = 1000
WIDTH = 200
PIXEL_STD = 0.375  # pixels then span 1 from black to white; standardised ones start training beside the edge


@dataclass(frozen=True)
class EdgeOfStabilityWorkload:
    """Classification of the digits with ``loss(logits, labels)``; the seed decides the weights alone."""

    info: WorkloadInfo
    loss: Callable[[Tensor, Tensor], Tensor]

    def start(self, seed: int) -> Problem:
        """Fresh weights, and the whole training set again and again."""
        train_x, test_x, train_y, test_y = digits_split()
        train_x, test_x = PIXEL_STD * train_x, PIXEL_STD * test_x
        model = build_seeded(build, seed)
        return Problem(
            model=model,
            batches=itertools.repeat((train_x[:NUM_IMAGES], train_y[:NUM_IMAGES])),
            loss=lambda batch: self.loss(model(batch[0]), batch[1]),
            evaluate=lambda: classification_metrics(model, test_x, test_y, self.loss),
        )


def build() -> nn.Module:
    """64 pixels, two hidden layers of 200 with tanh, ten classes: 55 210 parameters."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10)
    )


def squared_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Half the squared distance to the one-hot labels, summed over classes and averaged over images.

    Example:
        >>> import torch
        >>> squared_loss(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
        tensor(0.2500)
    """
    targets = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return 0.5 * (logits - targets).square().sum(dim=1).mean()
