"""Regression on a small table: scikit-learn's diabetes data, which a network soon knows by heart."""

from functools import cache

from torch import nn

from dcao_lab.workloads.base import Splits, WorkloadInfo
from dcao_lab.workloads.examples import ExampleWorkload
from dcao_lab.workloads.networks.perceptron import perceptron
from dcao_lab.workloads.unseen.splits import shuffled_splits, standardised

NUM_TRAIN, WIDTH = 350, 64

INFO = WorkloadInfo(
    name="diabetes",
    title="Diabetes table",
    summary=f"scikit-learn's diabetes data, {NUM_TRAIN} rows, MLP with two hidden layers of {WIDTH}, batch 32",
    metric="loss",
    higher_is_better=False,
    target=0.5,
    batch_size=32,
    num_steps=400,
    eval_every=40,
    step_cost=0.4,
)


@cache
def splits() -> Splits:
    """Ten standardised measurements, and the progress of the disease (N, 1), standardised too."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    return shuffled_splits(standardised(data.data), standardised(data.target[:, None]), NUM_TRAIN)


def build() -> nn.Module:
    """Two hidden layers of 64: 4 929 parameters."""
    return perceptron(10, WIDTH, WIDTH, 1)


WORKLOADS = (ExampleWorkload(info=INFO, build=build, splits=splits),)
