"""A small table: scikit-learn's breast cancer data, 30 measurements of 569 tumours that are benign or malignant."""

from functools import cache

import torch
from torch import nn

from dcao_lab.workloads.base import Splits, WorkloadInfo, with_replacement
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.networks.perceptron import perceptron
from dcao_lab.workloads.unseen.splits import shuffled_splits, standardised

NUM_TRAIN, WIDTH = 400, 64

INFO = WorkloadInfo(
    name="breast_cancer",
    title="Breast cancer table",
    summary=f"scikit-learn's breast cancer data, {NUM_TRAIN} rows, MLP with two hidden layers of {WIDTH}, batch 32",
    target=0.97,
    batch_size=32,
    num_steps=300,
    eval_every=30,
    step_cost=0.4,
)


@cache
def splits() -> Splits:
    """Standardised measurements and labels."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return shuffled_splits(standardised(data.data), torch.tensor(data.target), NUM_TRAIN)


def build() -> nn.Module:
    """Two hidden layers of 64: 6 274 parameters."""
    return perceptron(30, WIDTH, WIDTH, 2)


WORKLOADS = (ClassificationWorkload(INFO, build, splits, num_classes=2, draw=with_replacement),)
