"""Digits with a small ReLU network: the quickest real thing there is."""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.digits import BATCH_SIZE, digits_workload

INFO = WorkloadInfo(
    name="digits_mlp",
    title="Digits MLP",
    summary=f"scikit-learn digits, ReLU network with two hidden layers of 128, batch {BATCH_SIZE}",
    metric="accuracy",
    higher_is_better=True,
    target=0.97,
    batch_size=BATCH_SIZE,
    num_steps=1000,
    eval_every=25,
    step_cost=0.8,
)


def build() -> nn.Module:
    """64 pixels, two hidden layers of 128, ten classes: 26 122 parameters."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


WORKLOAD = digits_workload(INFO, build)
