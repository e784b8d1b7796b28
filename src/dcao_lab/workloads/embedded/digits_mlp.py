"""Digits with a small ReLU network, the fastest workload on real data; also with a small and a large batch."""

from dataclasses import replace

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.embedded.digits import BATCH_SIZE, digits_splits

INFO = WorkloadInfo(
    name="digits_mlp",
    title="Digits MLP",
    summary=f"scikit-learn digits, ReLU network with two hidden layers of 128, batch {BATCH_SIZE}",
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


def with_batch(batch_size: int, step_cost: float) -> ClassificationWorkload:
    """The workload with another batch size and its own name, so that a study can have several of them."""
    info = replace(
        INFO,
        name=f"{INFO.name}_{batch_size}",
        title=f"{INFO.title}, batch {batch_size}",
        summary=INFO.summary.replace(f"batch {BATCH_SIZE}", f"batch {batch_size}"),
        batch_size=batch_size,
        step_cost=step_cost,
    )
    return ClassificationWorkload(info, build, digits_splits)


WORKLOADS = (
    ClassificationWorkload(INFO, build, digits_splits),
    with_batch(16, step_cost=0.7),
    with_batch(1024, step_cost=3.0),
)
