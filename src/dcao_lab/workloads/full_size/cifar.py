"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), each with ResNet-18, 34 and 50 and with a ViT: eight workloads.

There are 50 000 training images of 32 by 32 pixels, 5000 of which are used for validation here, and 10 000 test images.

The recipe is that of DeVries and Taylor 2017 ("Improved Regularization of Convolutional Neural Networks with Cutout",
without Cutout): batches of 128, 200 epochs, images shifted by up to 4 pixels and mirrored, standardised by channel. Its
ResNet-18 has a 3 by 3 stem and gets 95.3 % of CIFAR-10 and 77.5 % of CIFAR-100 right. With the same recipe
github.com/weiaicunzai/pytorch-cifar100 has 75.6, 76.8 and 77.4 % of CIFAR-100 for ResNet-18, 34 and 50. The targets are
one to three points lower, because a tenth of the training images is held out.

The ViT is that of github.com/omihub777/ViT-CIFAR: patches of 4 by 4 pixels, 7 layers of width 384 with 12 heads, a
feed-forward network of 384, 6.3 million parameters, batches of 128 and 200 epochs. It gets 91.0 % of CIFAR-10 right
with AutoAugment and label smoothing. Neither is used here, and no accuracy without them is published there, so the
targets are a guess, far below that number.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.data import image_files
from dcao_lab.workloads.data.images import VisionSource
from dcao_lab.workloads.networks.vision import build_small_image_resnet, build_vit
from dcao_lab.workloads.vision import VisionWorkload

BATCH_SIZE = 128
NUM_EPOCHS = 200
STEPS_PER_EPOCH = 45_000 // BATCH_SIZE
VIT_SHAPE = {
    "image_size": 32,
    "patch_size": 4,
    "hidden_size": 384,
    "num_hidden_layers": 7,
    "num_attention_heads": 12,
    "intermediate_size": 384,
}


CIFAR10 = VisionSource(
    title="CIFAR-10",
    folder="cifar10",
    hub="uoft-cs/cifar10",
    image="img",
    label="label",
    num_classes=10,
    shape=(3, 32, 32),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    read_original=image_files.CIFAR10.read,
    original="cifar-10-python.tar.gz or the folder cifar-10-batches-py that it unpacks to",
)
CIFAR100 = VisionSource(
    title="CIFAR-100",
    folder="cifar100",
    hub="uoft-cs/cifar100",
    image="img",
    label="fine_label",
    num_classes=100,
    shape=(3, 32, 32),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    read_original=image_files.CIFAR100.read,
    original="cifar-100-python.tar.gz or the folder cifar-100-python that it unpacks to",
)


def resnet_workload(source: VisionSource, num_layers: int, target: float, step_cost: float) -> VisionWorkload:
    """Classification of CIFAR by a ResNet of ``num_layers`` layers for small images."""
    build = partial(build_small_image_resnet, num_layers, source.num_classes)
    return _workload(source, f"ResNet-{num_layers}", build, target, step_cost)


def vit_workload(source: VisionSource, target: float) -> VisionWorkload:
    """Classification of CIFAR by a ViT of 7 layers."""
    return _workload(source, "ViT", partial(build_vit, source.num_classes, **VIT_SHAPE), target, step_cost=6000.0)


def _workload(
    source: VisionSource, network: str, build: Callable[[], nn.Module], target: float, step_cost: float
) -> VisionWorkload:
    info = WorkloadInfo(
        name=f"{source.title}_{network}".replace("-", "").lower(),
        title=f"{source.title} {network}",
        summary=f"{source.title}, {network} for 32 by 32 pixels, shifted and mirrored, batch {BATCH_SIZE}",
        target=target,
        batch_size=BATCH_SIZE,
        num_steps=NUM_EPOCHS * STEPS_PER_EPOCH,
        eval_every=STEPS_PER_EPOCH,
        step_cost=step_cost,
        needs=source.title,
    )
    return VisionWorkload(info=info, source=source, build=build, is_augmented=True)


WORKLOADS = (
    resnet_workload(CIFAR10, 18, target=0.94, step_cost=8000.0),
    resnet_workload(CIFAR10, 34, target=0.94, step_cost=17_000.0),
    resnet_workload(CIFAR10, 50, target=0.94, step_cost=20_000.0),
    vit_workload(CIFAR10, target=0.80),
    resnet_workload(CIFAR100, 18, target=0.74, step_cost=8000.0),
    resnet_workload(CIFAR100, 34, target=0.75, step_cost=17_000.0),
    resnet_workload(CIFAR100, 50, target=0.76, step_cost=20_000.0),
    vit_workload(CIFAR100, target=0.50),
)
