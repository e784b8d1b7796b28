"""Digits with a small convolutional network with ReLU."""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.embedded.digits import BATCH_SIZE, digits_splits

INFO = WorkloadInfo(
    name="digits_cnn",
    title="Digits CNN",
    summary=f"scikit-learn digits, two ReLU convolutions with 16 and 32 channels, batch {BATCH_SIZE}",
    target=0.975,
    batch_size=BATCH_SIZE,
    num_steps=500,
    eval_every=20,
    step_cost=2.5,
)


def build() -> nn.Module:
    """Two 3 by 3 convolutions with ReLU and pooling, and a linear classifier: 6 090 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


WORKLOADS = (ClassificationWorkload(INFO, build, digits_splits),)
