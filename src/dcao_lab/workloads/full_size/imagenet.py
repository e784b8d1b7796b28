"""ImageNet-1k (Russakovsky et al. 2015) with ResNet-50 and with ViT-Base/16: two workloads.

There are 1 281 167 training images, 50 000 of which are used for validation here. The 50 000 official validation images
are used as test images, because the official test images have no published labels.

ResNet-50 follows Goyal et al. 2017 ("Accurate, Large Minibatch SGD"): batches of 256, 90 epochs, a random box of 8 to
100 % of the image, resized to 224 by 224 and mirrored at random, and the middle of the image for evaluation. They get
76.4 % right.

ViT-Base (Dosovitskiy et al. 2021) follows Beyer et al. 2022 ("Better plain ViT baselines for ImageNet-1k") with batches
of 1024 and 90 epochs. It has the augmentation of ResNet-50, without their RandAugment and MixUp, and the class token
and learned positions of the original. They report more than 76 % for ViT-S/16 with both. The target is a guess that
allows for what is left out.
"""

from functools import partial

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.data.images import VisionSource
from dcao_lab.workloads.networks.vision import build_resnet, build_vit
from dcao_lab.workloads.vision_stream import StreamedWorkload

NUM_CLASSES = 1000
NUM_VALIDATION = 50_000
NUM_TRAIN = 1_281_167 - NUM_VALIDATION
NUM_EPOCHS = 90
RESNET_BATCH = 256
VIT_BATCH = 1024
SOURCE = VisionSource(
    title="ImageNet-1k",
    folder="imagenet",
    hub="ILSVRC/imagenet-1k",
    image="image",
    label="label",
    num_classes=NUM_CLASSES,
    shape=None,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    test_names=("validation", "val"),
    num_validation=NUM_VALIDATION,
)

RESNET50_INFO = WorkloadInfo(
    name="imagenet_resnet50",
    title="ImageNet ResNet-50",
    summary=f"ImageNet-1k, ResNet-50, random boxes of 224 by 224 pixels, batch {RESNET_BATCH}",
    target=0.75,
    batch_size=RESNET_BATCH,
    num_steps=NUM_EPOCHS * (NUM_TRAIN // RESNET_BATCH),
    eval_every=NUM_TRAIN // RESNET_BATCH,
    step_cost=130_000.0,
    needs="ImageNet-1k",
)
VIT_INFO = WorkloadInfo(
    name="imagenet_vit",
    title="ImageNet ViT-Base",
    summary=f"ImageNet-1k, ViT-Base with patches of 16, random boxes of 224 by 224 pixels, batch {VIT_BATCH}",
    target=0.70,
    batch_size=VIT_BATCH,
    num_steps=NUM_EPOCHS * (NUM_TRAIN // VIT_BATCH),
    eval_every=NUM_TRAIN // VIT_BATCH,
    step_cost=2_000_000.0,
    needs="ImageNet-1k",
)
RESNET50 = StreamedWorkload(info=RESNET50_INFO, source=SOURCE, build=partial(build_resnet, 50, NUM_CLASSES))
VIT = StreamedWorkload(info=VIT_INFO, source=SOURCE, build=partial(build_vit, NUM_CLASSES))
WORKLOADS = (RESNET50, VIT)
