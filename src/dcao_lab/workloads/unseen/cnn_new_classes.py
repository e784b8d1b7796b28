"""A CNN that knows the digits 0 to 4 learns 5 to 9, with a new last layer and all weights trained.

The loss on the old digits is that of the old last layer on the features as they are now.
"""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo, with_replacement
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.unseen.old_digits import NUM_CLASSES, new_digits, old_domain_loss, with_new_head

INFO = WorkloadInfo(
    name="cnn_new_classes",
    title="CNN on new classes",
    summary="CNN pretrained on digits 0 to 4, trained on 5 to 9 with a new last layer, batch 32",
    target=0.95,
    batch_size=32,
    num_steps=300,
    eval_every=30,
    step_cost=1.6,
)


def build() -> nn.Module:
    """Two pretrained convolutions and a new last layer: 5 445 parameters."""
    return with_new_head()


WORKLOADS = (
    ClassificationWorkload(
        INFO, build, new_digits, num_classes=NUM_CLASSES, draw=with_replacement, other_metrics=old_domain_loss
    ),
)
