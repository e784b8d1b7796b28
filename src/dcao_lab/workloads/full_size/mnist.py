"""MNIST (LeCun et al. 1998): 70 000 handwritten digits of 28 by 28 pixels, 10 000 of them for testing."""

from collections.abc import Callable

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.data.image_files import read_mnist
from dcao_lab.workloads.data.images import VisionSource
from dcao_lab.workloads.vision import VisionWorkload

NUM_TRAIN = 55_000  # 5000 of the 60 000 are used for validation
SOURCE = VisionSource(
    title="MNIST",
    folder="mnist",
    hub="ylecun/mnist",
    image="image",
    label="label",
    num_classes=10,
    shape=(1, 28, 28),
    read_original=read_mnist,
    original="the idx files (train-images-idx3-ubyte.gz and the other three, packed or not)",
)


def mnist_workload(info: WorkloadInfo, build: Callable[[], nn.Module]) -> VisionWorkload:
    """Classification of MNIST by the network that ``build`` returns, without augmentation, as is usual."""
    return VisionWorkload(info=info, source=SOURCE, build=build, mean=(0.1307,), std=(0.3081,), is_augmented=False)
