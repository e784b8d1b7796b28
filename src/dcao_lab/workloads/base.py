"""What a workload offers to the training loop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from dcao_lab.errors import LabError

Batch = tuple[Tensor, Tensor]  # inputs and targets; a recurrent workload's has a third part, which it carries along
SplitName = Literal["train", "validation", "test"]
CPU = torch.device("cpu")
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class WorkloadInfo:
    """Facts about a workload that hold for every run of it.

    Attributes:
        name: What the command line calls it.
        title: What the report calls it.
        summary: Data, network and batch size in one line.
        metric: Key of the metric that ranks runs, among those that ``evaluate`` returns.
        higher_is_better: Whether more of it is better.
        target: Value of the metric on validation data that counts as reached, set before any comparison was run: of
            the embedded workloads what AdamW at lr 1e-3 has reached after two thirds of a run (seed 100, in no
            study), of the others a little less than the recipe's source reports.
        batch_size: Examples (or sequences) a training step, unless told otherwise.
        num_steps: Training steps of a run, unless told otherwise.
        eval_every: Steps from one evaluation to the next, unless told otherwise.
        step_cost: Rough milliseconds of a training step on one core; only the time left that is shown uses it.
        needs: Data that must be there or be downloaded; None: it comes with the packages.
    """

    name: str
    title: str
    summary: str
    metric: str
    higher_is_better: bool
    target: float
    batch_size: int
    num_steps: int
    eval_every: int
    step_cost: float
    needs: str | None = None


@dataclass(frozen=True, kw_only=True)
class StartRequest:
    """What a run asks of its workload.

    Attributes:
        seed: Decides initial weights, the order of batches and the label noise.
        batch_size: Examples a training step; None takes the workload's own.
        label_noise: Share of the training labels that are drawn anew, uniformly over the classes.
        data_dir: Folder of the data, for workloads that need some; None looks where the workload says.
        device: Where the model, the batches and the evaluation are.
    """

    seed: int
    batch_size: int | None = None
    label_noise: float = 0.0
    data_dir: Path | None = None
    device: torch.device = CPU


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A workload made ready for one run.

    Attributes:
        model: The network at its initial weights.
        batches: Training batches without end, in an order that the seed decides.
        loss: Mean training loss of the model on a batch, with its graph.
        evaluate: ``loss`` and the workload's own metric on a split. Of large training data a fixed part;
            called in eval mode and without a graph.
        criterion: The loss as a module of the model's output, for optimizers that need its form (K-FAC); None when it
            is neither ``CrossEntropyLoss`` nor ``MSELoss`` of the output itself.
        batches_per_epoch: Training batches that make one pass over the data.
    """

    model: nn.Module
    batches: Iterator[Batch]
    loss: Callable[[Batch], Tensor]
    evaluate: Callable[[SplitName], dict[str, float]]
    criterion: nn.Module | None
    batches_per_epoch: float


class Workload(Protocol):
    """Data, network, loss and metric that belong together."""

    @property
    def info(self) -> WorkloadInfo:
        """Facts about the workload."""

    def start(self, request: StartRequest) -> Problem:
        """The workload made ready for one run; the same request gives the same run."""


def generator(seed: int, purpose: int) -> torch.Generator:
    """A random stream of its own for each purpose, so that one draw more in one does not move the other."""
    return torch.Generator().manual_seed(1_000_003 * seed + purpose)


def build_seeded(build: Callable[[], M], seed: int) -> M:
    """The module that ``build`` makes, its weights decided by ``seed``; leaves the global stream alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # built on the CPU; torch.manual_seed prepares for GPUs as well
        return build()


def with_label_noise(labels: Tensor, share: float, num_classes: int, noise: torch.Generator) -> Tensor:
    """The labels, ``share`` of them drawn anew from all classes, so that some stay right by chance.

    Raises:
        LabError: The share is not between 0 and 1.
    """
    if not 0.0 <= share <= 1.0:  # also catches nan
        raise LabError(f"label_noise must be a share between 0 and 1, got {share}")
    if share == 0.0:
        return labels
    chosen = torch.randperm(len(labels), generator=noise)[: round(share * len(labels))]
    noisy = labels.clone()
    noisy[chosen] = torch.randint(num_classes, (len(chosen),), generator=noise, dtype=labels.dtype)
    return noisy


def refuse_label_noise(name: str, request: StartRequest) -> None:
    """Say that a workload has no labels to disturb.

    Raises:
        LabError: Label noise is asked for.
    """
    if request.label_noise != 0.0:
        raise LabError(f"label noise is for classification; {name} has none, got label_noise={request.label_noise}")


def require_batch_size(batch_size: int, num_examples: int) -> int:
    """The batch size, if there are so many examples.

    Raises:
        LabError: There are not, or it is not positive.
    """
    if not 1 <= batch_size <= num_examples:
        raise LabError(f"batch_size must be between 1 and the {num_examples} training examples, got {batch_size}")
    return batch_size


def shuffled_batches(inputs: Tensor, targets: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
    """Batches without end: every epoch a new permutation, its incomplete last batch left out."""
    while True:
        permutation = torch.randperm(len(inputs), generator=order)
        for start in range(0, len(inputs) - batch_size + 1, batch_size):
            chosen = permutation[start : start + batch_size]
            yield inputs[chosen], targets[chosen]
