"""MNIST-1D with the convolution network of its paper (Greydanus and Kobak), as its authors publish it."""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.embedded.mnist1d import BATCH_SIZE, mnist1d_splits

NUM_CHANNELS = 25

INFO = WorkloadInfo(
    name="mnist1d_conv",
    title="MNIST-1D CNN",
    summary=f"MNIST-1D, three ReLU convolutions with {NUM_CHANNELS} channels, batch {BATCH_SIZE}",
    target=0.8,
    batch_size=BATCH_SIZE,
    num_steps=4000,
    eval_every=200,
    step_cost=2.5,
)


def build() -> nn.Module:
    """Three convolutions of stride 2, which leave 5 points, and a linear classifier: 5 210 parameters."""
    return nn.Sequential(
        nn.Conv1d(1, NUM_CHANNELS, 5, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv1d(NUM_CHANNELS, NUM_CHANNELS, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv1d(NUM_CHANNELS, NUM_CHANNELS, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * NUM_CHANNELS, 10),
    )


WORKLOADS = (ClassificationWorkload(INFO, build, mnist1d_splits),)
