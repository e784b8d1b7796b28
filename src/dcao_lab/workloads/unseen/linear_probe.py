"""Logistic regression on digits from weights that are zero: a linear probe, as on the features of a frozen network."""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo, with_replacement
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.unseen.splits import digits

INFO = WorkloadInfo(
    name="linear_probe",
    title="Linear probe",
    summary="scikit-learn digits, logistic regression from zeros, batch 64",
    target=0.9,
    batch_size=64,
    num_steps=600,
    eval_every=60,
    step_cost=0.2,
)


def build() -> nn.Module:
    """A linear layer of 650 zeros."""
    model = nn.Linear(64, 10)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return model


WORKLOADS = (ClassificationWorkload(INFO, build, digits, draw=with_replacement),)
