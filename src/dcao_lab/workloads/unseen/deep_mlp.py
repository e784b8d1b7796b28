"""Digits with twelve linear layers and nothing that normalises, from Kaiming initial weights (He et al. 2015)."""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo, with_replacement
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.networks.perceptron import perceptron
from dcao_lab.workloads.unseen.splits import digits

WIDTH = 64

INFO = WorkloadInfo(
    name="deep_mlp",
    title="Deep MLP",
    summary=f"scikit-learn digits, 12 layers of width {WIDTH} without normalisation, batch 64",
    target=0.96,
    batch_size=64,
    num_steps=600,
    eval_every=60,
    step_cost=1.1,
)


def build() -> nn.Module:
    """Eleven hidden layers with ReLU: 46 410 parameters."""
    model = perceptron(64, *[WIDTH] * 11, 10)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model


WORKLOADS = (ClassificationWorkload(INFO, build, digits, draw=with_replacement),)
