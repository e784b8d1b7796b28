"""A CNN that knows the digits 0 to 4 learns 5 to 9 with a new last layer, which alone is trained."""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo, with_replacement
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.unseen.old_digits import NUM_CLASSES, new_digits, old_domain_loss, with_new_head

INFO = WorkloadInfo(
    name="cnn_last_layer",
    title="CNN, last layer",
    summary="CNN pretrained on digits 0 to 4, only a new last layer trained on 5 to 9, batch 32",
    target=0.87,
    batch_size=32,
    num_steps=300,
    eval_every=30,
    step_cost=0.9,
)


def build() -> nn.Module:
    """Two pretrained convolutions that stay, and a new last layer: 645 parameters that train."""
    model = with_new_head()
    model[:-1].requires_grad_(False)
    return model


WORKLOADS = (
    ClassificationWorkload(
        INFO, build, new_digits, num_classes=NUM_CLASSES, draw=with_replacement, other_metrics=old_domain_loss
    ),
)
