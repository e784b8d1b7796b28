"""What the classification workloads share: mini-batches, cross-entropy, accuracy."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Problem, WorkloadInfo, build_seeded, generator, shuffled_batches

Split = tuple[Tensor, Tensor, Tensor, Tensor]  # training inputs, test inputs, training labels, test labels


@dataclass(frozen=True)
class ClassificationWorkload:
    """Classification of what ``split`` returns by the network that ``build`` makes."""

    info: WorkloadInfo
    build: Callable[[], nn.Module]
    split: Callable[[], Split]
    batch_size: int

    def start(self, seed: int) -> Problem:
        """Fresh weights, and batches in an order of their own."""
        train_x, test_x, train_y, test_y = self.split()
        model = build_seeded(self.build, seed)
        return Problem(
            model=model,
            batches=shuffled_batches(train_x, train_y, self.batch_size, generator(seed, purpose=1)),
            loss=lambda batch: F.cross_entropy(model(batch[0]), batch[1]),
            evaluate=lambda: classification_metrics(model, test_x, test_y, F.cross_entropy),
        )


def classification_metrics(
    model: nn.Module, inputs: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, float]:
    """The mean loss and the share of right answers."""
    logits = model(inputs)
    return {
        "test_loss": loss(logits, labels).item(),
        "accuracy": (logits.argmax(dim=1) == labels).float().mean().item(),
    }
