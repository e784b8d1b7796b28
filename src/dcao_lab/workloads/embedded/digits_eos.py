"""Full-batch training of a tanh network on a fixed part of the digits, which shows the edge of stability.

It follows Cohen et al. 2021, "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability": two
hidden layers of 200 tanh units, PyTorch's initial weights, and every step on the same training set. They use 5000
images of CIFAR-10; here it is 1000 digits, so that a step takes milliseconds.

Gradient descent without momentum does this here (seed 0). With the squared loss and lr 0.2 the sharpness rises from 6.4
to the edge at 10 in about 100 steps, and stays 1 to 8 % above it. With cross-entropy and lr 1 it rises from 0.65 past
the edge at 2 in ten steps, and falls once the digits are fitted, as the paper says it does with cross-entropy.
"""

from functools import cache

import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Splits, WorkloadInfo
from dcao_lab.workloads.classification import ClassificationWorkload, Loss
from dcao_lab.workloads.embedded.digits import digits_splits

NUM_IMAGES = 1000
WIDTH = 200
PIXEL_STD = 0.375  # pixels then range over 1; with standardised ones training would start close to the edge


def build() -> nn.Module:
    """64 pixels, two hidden layers of 200 with tanh, ten classes: 55 210 parameters."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10)
    )


@cache
def splits() -> Splits:
    """The digits with a smaller range of pixels."""
    return {name: (PIXEL_STD * images, labels) for name, (images, labels) in digits_splits().items()}


def squared_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Half the squared distance to the one-hot labels, summed over classes and averaged over images.

    Example:
        >>> import torch
        >>> squared_loss(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
        tensor(0.2500)
    """
    targets = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return 0.5 * (logits - targets).square().sum(dim=1).mean()


def _workload(name: str, loss_title: str, loss: Loss) -> ClassificationWorkload:
    info = WorkloadInfo(
        name=name,
        title=f"Digits full batch, {loss_title}",
        summary=f"{NUM_IMAGES} scikit-learn digits at once, tanh network of 2 layers, width {WIDTH}, {loss_title}",
        target=0.97,
        batch_size=NUM_IMAGES,
        num_steps=2000,
        eval_every=50,
        step_cost=7.0,
    )
    return ClassificationWorkload(info, build, splits, loss, is_full_batch=True)


WORKLOADS = (
    _workload("digits_eos_ce", "cross-entropy", F.cross_entropy),
    _workload("digits_eos_mse", "squared loss", squared_loss),
)
