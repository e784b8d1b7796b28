"""Classification of data in memory: mini-batches, cross-entropy and accuracy."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Draw, Problem, Splits, StartRequest, WorkloadInfo, shuffled_batches

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits and labels


@dataclass(frozen=True)
class ClassificationWorkload:
    """Classification of data in memory.

    Attributes:
        info: Facts about the workload.
        build: Returns the network.
        splits: Returns the data.
        loss: Mean loss of logits and labels.
        is_full_batch: Whether every step is on the same batch, the first examples.
        num_classes: Number of classes, for label noise.
        draw: Returns the training batches.
        other_metrics: Further metrics of the network, told with those of the test split.
    """

    info: WorkloadInfo
    build: Callable[[], nn.Module]
    splits: Callable[[], Splits]
    loss: Loss = F.cross_entropy
    is_full_batch: bool = False
    num_classes: int = 10
    draw: Draw = shuffled_batches
    other_metrics: Callable[[nn.Module], dict[str, float]] = lambda model: {}

    def start(self, request: StartRequest) -> Problem:
        """The problem with weights, order of batches and label noise from the seed of the request."""
        splits = request.moved(self.splits())
        model = request.built(self.build)
        inputs, labels = splits["train"]
        batch_size = request.batch_size_within(self.info, len(inputs))
        noisy = request.noisy(labels, self.num_classes)
        batches = self.draw(inputs, noisy, batch_size, request.generator(purpose=1))
        if self.is_full_batch:
            batches = itertools.repeat((inputs[:batch_size], noisy[:batch_size]))
        return Problem(
            model=model,
            batches=batches,
            loss=lambda batch: self.loss(model(batch[0]), batch[1]),
            evaluate=lambda split: {
                **classification_metrics(model, splits[split], self.loss),
                **(self.other_metrics(model) if split == "test" else {}),
            },
            criterion=nn.CrossEntropyLoss() if self.loss is F.cross_entropy else None,
            batches_per_epoch=1 if self.is_full_batch else len(inputs) // batch_size,
        )


def classification_metrics(model: nn.Module, batch: Batch, loss: Loss) -> dict[str, float]:
    """``loss``, the mean loss, and ``accuracy``, the share of right answers between 0 and 1."""
    inputs, labels = batch
    logits = model(inputs)
    return {
        "loss": loss(logits, labels).item(),
        "accuracy": (logits.argmax(dim=1) == labels).float().mean().item(),
    }
