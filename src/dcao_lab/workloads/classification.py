"""Classification of data in memory: mini-batches, cross-entropy and accuracy."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Problem, SplitName, StartRequest, WorkloadInfo, shuffled_batches

Splits = dict[SplitName, Batch]  # inputs and labels of each split
NUM_CLASSES = 10


@dataclass(frozen=True)
class ClassificationWorkload:
    """Classification of the data that ``splits`` returns, by the network that ``build`` returns."""

    info: WorkloadInfo
    build: Callable[[], nn.Module]
    splits: Callable[[], Splits]

    def start(self, request: StartRequest) -> Problem:
        """The problem with weights, order of batches and label noise from the seed of the request."""
        splits = moved(self.splits(), request)
        model = request.built(self.build)
        inputs, labels = splits["train"]
        batch_size = request.batch_size_within(self.info, len(inputs))
        criterion = nn.CrossEntropyLoss()
        noisy = request.noisy(labels, NUM_CLASSES)
        return Problem(
            model=model,
            batches=shuffled_batches(inputs, noisy, batch_size, request.generator(purpose=1)),
            loss=lambda batch: criterion(model(batch[0]), batch[1]),
            evaluate=lambda split: classification_metrics(model, splits[split], F.cross_entropy),
            criterion=criterion,
            batches_per_epoch=len(inputs) // batch_size,
        )


def moved(splits: Splits, request: StartRequest) -> Splits:
    """The splits on the device of the request."""
    return {name: (inputs.to(request.device), labels.to(request.device)) for name, (inputs, labels) in splits.items()}


def classification_metrics(
    model: nn.Module, batch: Batch, loss: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, float]:
    """``loss``, the mean loss, and ``accuracy``, the share of right answers between 0 and 1."""
    inputs, labels = batch
    logits = model(inputs)
    return {
        "loss": loss(logits, labels).item(),
        "accuracy": (logits.argmax(dim=1) == labels).float().mean().item(),
    }
