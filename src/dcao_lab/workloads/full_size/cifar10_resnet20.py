"""CIFAR-10 with ResNet-20 of He et al. 2016, which a CPU can train.

The recipe is the paper's (section 4.2): batches of 128, 64 000 iterations, images shifted by up to 4 pixels and
mirrored, 45 000 of them to train and 5000 to validate with. ResNet-20 then gets 91.25 % of the test images right. Its
SGD with momentum 0.9 has a weight decay of 1e-4 and divides its lr of 0.1 by ten after 32 000 and 48 000 iterations.
Pixels are standardised here; in the paper the mean of each is subtracted.
"""

from functools import partial

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.full_size.cifar import CIFAR10
from dcao_lab.workloads.networks.cifar_resnet import CifarResNet
from dcao_lab.workloads.vision import VisionWorkload

BATCH_SIZE = 128
NUM_EVALUATED = 5000  # of the test images half

WORKLOADS = (
    VisionWorkload(
        info=WorkloadInfo(
            name="cifar10_resnet20",
            title="CIFAR-10 ResNet-20",
            summary=f"CIFAR-10, ResNet-20 of 0.27 M parameters, shifted and mirrored, batch {BATCH_SIZE}",
            target=0.90,
            batch_size=BATCH_SIZE,
            num_steps=64_000,
            eval_every=351,
            step_cost=280.0,
            needs=CIFAR10.title,
        ),
        source=CIFAR10,
        build=partial(CifarResNet, blocks=3, num_classes=CIFAR10.num_classes),
        is_augmented=True,
        num_evaluated=NUM_EVALUATED,
    ),
)
