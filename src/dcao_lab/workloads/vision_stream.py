"""Training and evaluation on images that do not fit into memory and are decoded when needed: ImageNet."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Problem, SplitName, StartRequest, WorkloadInfo, shuffled_batches
from dcao_lab.workloads.data.augment import center_crop, draw_crops, random_crop
from dcao_lab.workloads.data.folders import unreadable_is_clear
from dcao_lab.workloads.data.images import VisionSource, check_labels, held_out, load_rows, open_image
from dcao_lab.workloads.vision import batched_metrics

EVALUATION_BATCH = 128
BATCHES_AHEAD = 2  # batches decoded in advance; no other images are in memory

_Encoded = tuple[Sequence[Callable[[], Tensor]], Tensor]  # functions that decode the images of a batch, and labels


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
    """

    info: WorkloadInfo
    source: VisionSource
    build: Callable[[], nn.Module]

    def start(self, request: StartRequest) -> Problem:
        """The problem with weights, order of batches, crops and label noise from the seed of the request."""
        splits = self._splits(request)
        model = request.built(self.build)
        train = splits["train"]
        batch_size = request.batch_size_within(self.info, len(train.labels))
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
        draws, order = request.generator(purpose=3), request.generator(purpose=1)
        labels = request.noisy(rows.labels, self.source.num_classes).cpu()

        def batches() -> Iterator[_Encoded]:
            for chosen, targets in shuffled_batches(torch.arange(len(labels)), labels, batch_size, order):
                is_flipped = torch.rand(batch_size, generator=draws) < 0.5
                drawn = zip(rows.encoded(chosen), draw_crops(batch_size, draws), is_flipped.tolist(), strict=True)
                yield [partial(_training_image, *each) for each in drawn], targets

        yield from self._decoded(batches(), request)

    def _evaluation_batches(
        self, splits: dict[SplitName, Rows], split: SplitName, request: StartRequest
    ) -> Iterator[Batch]:
        rows = splits[split]
        number = min(len(rows.labels), len(splits["test"].labels))  # no more training than test images
        chunks = torch.split(torch.arange(number), EVALUATION_BATCH)
        batches = (
            ([partial(_evaluation_image, encoded) for encoded in rows.encoded(chunk)], rows.labels[chunk])
            for chunk in chunks
        )
        yield from self._decoded(batches, request)

    def _decoded(self, batches: "Iterator[_Encoded]", request: StartRequest) -> Iterator[Batch]:
        """The batches decoded; as many threads as torch may use decode two batches in advance."""
        with ThreadPoolExecutor(max(1, min(torch.get_num_threads(), os.cpu_count() or 1))) as pool:
            pending: deque[tuple[list[Future[Tensor]], Tensor]] = deque()
            for images, labels in batches:
                pending.append(([pool.submit(decode) for decode in images], labels))
                if len(pending) > BATCHES_AHEAD:
                    yield self._finished(*pending.popleft(), request)
            while pending:
                yield self._finished(*pending.popleft(), request)

    def _finished(self, images: list[Future[Tensor]], labels: Tensor, request: StartRequest) -> Batch:
        with unreadable_is_clear(self.source.title, request.data_dir or f"the cache of {self.source.hub}"):
            pixels = torch.stack([image.result() for image in images])
        return self.source.normalised(pixels.to(request.device)), labels.to(request.device)


def _labels(table: Any) -> Tensor:
    return torch.tensor(table.select_columns(["label"])[:].column("label").to_pylist(), dtype=torch.long)


def _training_image(encoded: dict[str, Any], crop: Tensor, is_flipped: bool) -> Tensor:
    image = random_crop(open_image(encoded), crop)
    return image.flip(2) if is_flipped else image


def _evaluation_image(encoded: dict[str, Any]) -> Tensor:
    return center_crop(open_image(encoded))
