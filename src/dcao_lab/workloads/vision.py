"""Training and evaluation on images that fit into memory: MNIST and CIFAR."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from dcao_lab.workloads.base import Batch, Problem, SplitName, StartRequest, WorkloadInfo, shuffled_batches
from dcao_lab.workloads.data.augment import crop_and_flip
from dcao_lab.workloads.data.image_files import Images
from dcao_lab.workloads.data.images import VisionSource, held_out, load_images

EVALUATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class VisionWorkload:
    """Classification of the images of ``source`` by the network that ``build`` returns.

    Attributes:
        info: Facts about the workload.
        source: The data set.
        build: Returns the network, which maps images to logits.
        is_augmented: Whether training images are shifted and mirrored at random.
        num_train: Number of images to train with, the same ones in every run, but a tenth of them at most; None: all.
        num_evaluated: Number of images of each split, its first, that an evaluation is of; None: all.
    """

    info: WorkloadInfo
    source: VisionSource
    build: Callable[[], nn.Module]
    is_augmented: bool
    num_train: int | None = None
    num_evaluated: int | None = None

    def start(self, request: StartRequest) -> Problem:
        """The problem with weights, order of batches, augmentation and label noise from the seed of the request."""
        splits = self._splits(request)
        model = request.built(self.build)
        images, labels = splits["train"]
        batch_size = request.batch_size_within(self.info, len(images))
        criterion = nn.CrossEntropyLoss()
        noisy = request.noisy(labels, self.source.num_classes)
        return Problem(
            model=model,
            batches=self._training_batches((images, noisy), batch_size, request),
            loss=lambda batch: criterion(model(batch[0]), batch[1]),
            evaluate=lambda split: batched_metrics(model, self._evaluation_batches(splits, split)),
            criterion=criterion,
            batches_per_epoch=len(images) // batch_size,
        )

    def _splits(self, request: StartRequest) -> dict[SplitName, Images]:
        loaded = load_images(self.source, request.data_dir)
        images, labels = loaded["train"]
        training, validation = held_out(labels, self.source.num_validation)
        if self.num_train is not None:
            training = training[held_out(labels[training], self.num_train)[1]]
        splits: dict[SplitName, Images] = {
            "train": (images[training], labels[training]),
            "validation": (images[validation], labels[validation]),
            "test": loaded["test"],
        }
        return request.moved(splits)

    def _training_batches(self, examples: Images, batch_size: int, request: StartRequest) -> Iterator[Batch]:
        images, labels = examples
        draws, order = request.generator(purpose=3), request.generator(purpose=1)
        for chosen, targets in shuffled_batches(torch.arange(len(images)), labels, batch_size, order):
            pixels = images[chosen.to(images.device)]
            yield self.source.normalised(crop_and_flip(pixels, draws) if self.is_augmented else pixels), targets

    def _evaluation_batches(self, splits: dict[SplitName, Images], split: SplitName) -> Iterator[Batch]:
        images, labels = splits[split]
        number = min(len(images), len(splits["test"][0]))  # no more training images than test images
        number = number if self.num_evaluated is None else min(number, self.num_evaluated)
        for start in range(0, number, EVALUATION_BATCH):
            end = min(start + EVALUATION_BATCH, number)
            yield self.source.normalised(images[start:end]), labels[start:end]


def batched_metrics(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """``loss``, the mean loss, and ``accuracy``, the share of right answers, over all batches."""
    loss, right, number = 0.0, 0, 0
    for inputs, labels in batches:
        logits = model(inputs)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        right += int((logits.argmax(dim=1) == labels).sum())
        number += len(labels)
    return {"loss": loss / number, "accuracy": right / number}
