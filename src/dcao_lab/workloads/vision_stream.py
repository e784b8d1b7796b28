"""Training and evaluation on images that do not fit into memory and are decoded when needed: ImageNet."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dcao_lab.workloads.base import (
    Batch,
    Problem,
    SplitName,
    StartRequest,
    WorkloadInfo,
    build_seeded,
    generator,
    require_batch_size,
    shuffled_batches,
)
from dcao_lab.workloads.classification import noisy_labels
from dcao_lab.workloads.data.augment import center_crop, draw_crops, normalised, random_crop
from dcao_lab.workloads.data.folders import unreadable_is_clear
from dcao_lab.workloads.data.images import VisionSource, check_labels, held_out, load_rows, open_image
from dcao_lab.workloads.vision import batched_metrics

EVALUATION_BATCH = 128
BATCHES_AHEAD = 2  # batches decoded in advance; no other images are in memory


@dataclass(frozen=True)
class Rows:
    """The images of a split, still encoded in memory-mapped files, and their labels."""

    table: Any
    indices: Tensor
    labels: Tensor

    def encoded(self, chosen: Tensor) -> list[dict[str, Any]]:
        """The chosen images, still encoded."""
        images: list[dict[str, Any]] = self.table[self.indices[chosen].tolist()].column("image").to_pylist()
        return images


@dataclass(frozen=True, kw_only=True)
class StreamedWorkload:
    """Classification of the images of ``source``, cut to 224 by 224 pixels, by the network that ``build`` returns.

    Attributes:
        info: Facts about the workload.
        source: The data set.
        build: Returns the network, which maps images to logits.
        mean: Mean of each channel of the training images, between 0 (black) and 1 (white).
        std: Standard deviation of each channel, in the same unit.
    """

    info: WorkloadInfo
    source: VisionSource
    build: Callable[[], nn.Module]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def start(self, request: StartRequest) -> Problem:
        """The problem with weights, order of batches, crops and label noise from the seed of the request."""
        splits = self._splits(request)
        model = build_seeded(self.build, request.seed).to(request.device)
        train = splits["train"]
        batch_size = require_batch_size(request.batch_size or self.info.batch_size, len(train.labels))
        criterion = nn.CrossEntropyLoss()
        return Problem(
            model=model,
            batches=self._training_batches(train, batch_size, request),
            loss=lambda batch: criterion(model(batch[0]), batch[1]),
            evaluate=lambda split: batched_metrics(model, self._evaluation_batches(splits, split, request)),
            criterion=criterion,
            batches_per_epoch=len(train.labels) // batch_size,
        )

    def _splits(self, request: StartRequest) -> dict[SplitName, Rows]:
        tables = load_rows(self.source, request.data_dir, streaming=False)
        labels = {name: _labels(table) for name, table in tables.items()}
        for name, values in labels.items():
            check_labels(values, self.source, f"the split {name}")
        training, validation = held_out(labels["train"], self.source.num_validation)
        train = tables["train"]
        return {
            "train": Rows(train, training, labels["train"][training]),
            "validation": Rows(train, validation, labels["train"][validation]),
            "test": Rows(tables["test"], torch.arange(len(labels["test"])), labels["test"]),
        }

    def _training_batches(self, rows: Rows, batch_size: int, request: StartRequest) -> Iterator[Batch]:
        draws = generator(request.seed, purpose=3)
        labels = noisy_labels(rows.labels, request, self.source.num_classes).cpu()
        order = generator(request.seed, purpose=1)

        def jobs() -> Iterator[_Job]:
            for chosen, targets in shuffled_batches(torch.arange(len(labels)), labels, batch_size, order):
                is_flipped = torch.rand(batch_size, generator=draws) < 0.5
                yield _Job(rows.encoded(chosen), targets, draw_crops(batch_size, draws), is_flipped)

        yield from self._decoded(jobs(), request)

    def _evaluation_batches(
        self, splits: dict[SplitName, Rows], split: SplitName, request: StartRequest
    ) -> Iterator[Batch]:
        rows = splits[split]
        number = min(len(rows.labels), len(splits["test"].labels))  # no more training than test images
        chunks = torch.split(torch.arange(number), EVALUATION_BATCH)
        yield from self._decoded((_Job(rows.encoded(chunk), rows.labels[chunk]) for chunk in chunks), request)

    def _decoded(self, jobs: "Iterator[_Job]", request: StartRequest) -> Iterator[Batch]:
        """The decoded batches of the jobs; as many threads as torch may use decode two batches in advance."""
        with ThreadPoolExecutor(max(1, min(torch.get_num_threads(), os.cpu_count() or 1))) as pool:
            pending: deque[_Pending] = deque()
            for job in jobs:
                pending.append(_Pending(job, [pool.submit(_cut, *item) for item in job.items()]))
                if len(pending) > BATCHES_AHEAD:
                    yield self._finished(pending.popleft(), request)
            while pending:
                yield self._finished(pending.popleft(), request)

    def _finished(self, pending: "_Pending", request: StartRequest) -> Batch:
        with unreadable_is_clear(self.source.title, request.data_dir or f"the cache of {self.source.hub}"):
            images = torch.stack([image.result() for image in pending.images])
        if pending.job.is_flipped is not None:
            images = torch.where(pending.job.is_flipped[:, None, None, None], images.flip(3), images)
        pixels = normalised(images.to(request.device), self.mean, self.std)
        return pixels, pending.job.labels.to(request.device)


def _labels(table: Any) -> Tensor:
    return torch.tensor(table.select_columns(["label"])[:].column("label").to_pylist(), dtype=torch.long)


@dataclass(frozen=True)
class _Job:
    """A batch before it is decoded; one for evaluation has no crops."""

    encoded: list[dict[str, Any]]
    labels: Tensor
    crops: Tensor | None = None
    is_flipped: Tensor | None = None

    def items(self) -> list[tuple[dict[str, Any], Tensor | None]]:
        crops = [None] * len(self.encoded) if self.crops is None else list(self.crops)
        return list(zip(self.encoded, crops, strict=True))


@dataclass(frozen=True)
class _Pending:
    job: _Job
    images: list[Future[Tensor]]


def _cut(encoded: dict[str, Any], crop: Tensor | None) -> Tensor:
    image = open_image(encoded)
    return center_crop(image) if crop is None else random_crop(image, crop)
