"""An autoencoder that squeezes digits into eight numbers."""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.examples import ExampleWorkload
from dcao_lab.workloads.networks.perceptron import perceptron
from dcao_lab.workloads.unseen.splits import pixels_alone

CODE = 8

INFO = WorkloadInfo(
    name="digits_autoencoder",
    title="Digits autoencoder",
    summary=f"scikit-learn digits, fully connected autoencoder through {CODE} numbers, squared error, batch 64",
    metric="loss",
    higher_is_better=False,
    target=0.021,
    batch_size=64,
    num_steps=500,
    eval_every=50,
    step_cost=0.5,
)


def build() -> nn.Module:
    """Encoder and decoder with a hidden layer of 128 each: 18 760 parameters."""
    return nn.Sequential(perceptron(64, 128, CODE), perceptron(CODE, 128, 64))


WORKLOADS = (ExampleWorkload(info=INFO, build=build, splits=pixels_alone),)
