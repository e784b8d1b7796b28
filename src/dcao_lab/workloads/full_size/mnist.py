"""MNIST (LeCun et al. 1998), 70 000 handwritten digits of 28 by 28 pixels, with two networks: two workloads.

LeNet-300-100 (LeCun et al. 1998) is trained as Frankle and Carbin 2019 do ("The Lottery Ticket Hypothesis", figure 2):
batches of 60, 50 000 iterations, Adam at 1.2e-3, and 5000 training images held out; about 98 % of the test images are
right. Here pixels are also standardised, as in the other workloads.

The convolutional network is that of PyTorch's own example (github.com/pytorch/examples, ``mnist/main.py``), with its
batches of 64, 14 epochs and dropout. The example gets about 99.2 % of the test images right after training on all
60 000.
"""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.data.image_files import read_mnist
from dcao_lab.workloads.data.images import VisionSource
from dcao_lab.workloads.vision import VisionWorkload

NUM_TRAIN = 55_000  # 5000 of the 60 000 are used for validation; the test images are 10 000 others
MLP_BATCH = 60
CNN_BATCH = 64
SOURCE = VisionSource(
    title="MNIST",
    folder="mnist",
    hub="ylecun/mnist",
    image="image",
    label="label",
    num_classes=10,
    shape=(1, 28, 28),
    mean=(0.1307,),
    std=(0.3081,),
    read_original=read_mnist,
    original="the idx files (train-images-idx3-ubyte.gz and the other three, packed or not)",
)

MLP_INFO = WorkloadInfo(
    name="mnist_mlp",
    title="MNIST MLP",
    summary=f"MNIST, ReLU network with hidden layers of 300 and 100, batch {MLP_BATCH}",
    target=0.975,
    batch_size=MLP_BATCH,
    num_steps=50_000,
    eval_every=1000,
    step_cost=2.0,
    needs="MNIST",
)
CNN_INFO = WorkloadInfo(
    name="mnist_cnn",
    title="MNIST CNN",
    summary=f"MNIST, ReLU convolutions with 32 and 64 channels, dropout, batch {CNN_BATCH}",
    target=0.985,
    batch_size=CNN_BATCH,
    num_steps=14 * (NUM_TRAIN // CNN_BATCH),
    eval_every=NUM_TRAIN // CNN_BATCH,
    step_cost=100.0,
    needs="MNIST",
)


def build_mlp() -> nn.Module:
    """784 pixels, ReLU layers of 300 and 100, ten classes: 266 610 parameters."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )


def build_cnn() -> nn.Module:
    """Two 3 by 3 convolutions and a pooling, which leave 12 by 12 pixels, and two layers: 1 199 882 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


WORKLOADS = tuple(
    VisionWorkload(info=info, source=SOURCE, build=build, is_augmented=False)
    for info, build in ((MLP_INFO, build_mlp), (CNN_INFO, build_cnn))
)
