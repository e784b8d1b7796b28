"""MNIST with LeNet-300-100 (LeCun et al. 1998), trained as Frankle and Carbin 2019 do.

"The Lottery Ticket Hypothesis", figure 2: batches of 60, 50 000 iterations, Adam at 1.2e-3, and 5000 training images
held out; about 98 % of the test images are right. Here pixels are also standardised, as in the other workloads.
"""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.full_size.mnist import mnist_workload

BATCH_SIZE = 60

INFO = WorkloadInfo(
    name="mnist_mlp",
    title="MNIST MLP",
    summary=f"MNIST, ReLU network with hidden layers of 300 and 100, batch {BATCH_SIZE}",
    metric="accuracy",
    higher_is_better=True,
    target=0.975,
    batch_size=BATCH_SIZE,
    num_steps=50_000,
    eval_every=1000,
    step_cost=2.0,
    needs="MNIST",
)


def build() -> nn.Module:
    """784 pixels, ReLU layers of 300 and 100, ten classes: 266 610 parameters."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )


WORKLOAD = mnist_workload(INFO, build)
