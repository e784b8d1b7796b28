"""The interface between a workload and the training loop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from dcao_lab.errors import LabError

Batch = tuple[Tensor, Tensor]  # inputs and targets; a recurrent workload adds the state that it carries along
SplitName = Literal["train", "validation", "test"]
CPU = torch.device("cpu")
M = TypeVar("M", bound=nn.Module)
Splits = dict[SplitName, Batch]  # the examples of each split
Draw = Callable[[Tensor, Tensor, int, torch.Generator], Iterator[Batch]]  # of inputs, targets, batch size and order


@dataclass(frozen=True, kw_only=True)
class WorkloadInfo:
    """Facts about a workload that hold for every run of it.

    Attributes:
        name: Its name on the command line.
        title: Its name in the report.
        summary: Data, network and batch size in one line.
        target: Value of the metric on validation data that a run has to reach, set before any comparison was run. For
            the embedded workloads it is what AdamW at lr 1e-3 reached after two thirds of a run (seed 100, which no
            study uses); for the others it is a little less than the source of the recipe reports.
        batch_size: Default number of examples (or sequences) in a training step.
        num_steps: Default number of training steps of a run.
        eval_every: Default number of steps from one evaluation to the next.
        step_cost: Rough time of a training step on one core in milliseconds, used only to estimate the time left.
        metric: Key of the metric that ranks runs, among those that ``evaluate`` returns; the accuracy by default.
        higher_is_better: Whether a higher value of the metric is better.
        needs: Data that must be there or be downloaded; None if it comes with the installed packages.
    """

    name: str
    title: str
    summary: str
    target: float
    batch_size: int
    num_steps: int
    eval_every: int
    step_cost: float
    metric: str = "accuracy"
    higher_is_better: bool = True
    needs: str | None = None


@dataclass(frozen=True, kw_only=True)
class StartRequest:
    """What a run asks of its workload.

    Attributes:
        seed: Seed of the initial weights, the order of batches and the label noise.
        batch_size: Number of examples in a training step; None for the workload's own.
        label_noise: Share of the training labels that are replaced by random ones, uniform over the classes.
        data_dir: Folder of the data, for workloads that need some; None for the workload's own places.
        device: Device of the model, the batches and the evaluation.
    """

    seed: int
    batch_size: int | None = None
    label_noise: float = 0.0
    data_dir: Path | None = None
    device: torch.device = CPU

    def generator(self, purpose: int) -> torch.Generator:
        """The random stream of the seed for a purpose."""
        return generator(self.seed, purpose)

    def built(self, build: Callable[[], M]) -> M:
        """The module that ``build`` returns, with weights from the seed; the global random stream does not change."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)  # enough on the CPU; torch.manual_seed would seed GPUs too
            return build().to(self.device)

    def moved(self, splits: Splits) -> Splits:
        """The splits on the device."""
        return {name: (inputs.to(self.device), targets.to(self.device)) for name, (inputs, targets) in splits.items()}

    def batch_size_within(self, info: WorkloadInfo, num_examples: int) -> int:
        """The batch size that is asked for, or the workload's own.

        Raises:
            LabError: There are fewer examples, or it is below 1.
        """
        batch_size = self.batch_size or info.batch_size
        if not 1 <= batch_size <= num_examples:
            raise LabError(f"batch_size must be between 1 and the {num_examples} training examples, got {batch_size}")
        return batch_size

    def noisy(self, labels: Tensor, num_classes: int) -> Tensor:
        """The labels on the device, a share of them replaced by random classes, some of which are right by chance.

        Raises:
            LabError: The share is not between 0 and 1.
        """
        if not 0.0 <= self.label_noise <= 1.0:  # also catches nan
            raise LabError(f"label_noise must be a share between 0 and 1, got {self.label_noise}")
        noise = self.generator(purpose=2)
        chosen = torch.randperm(len(labels), generator=noise)[: round(self.label_noise * len(labels))]
        noisy = labels.cpu().clone()
        noisy[chosen] = torch.randint(num_classes, (len(chosen),), generator=noise, dtype=labels.dtype)
        return noisy.to(self.device)

    def refuse_label_noise(self, info: WorkloadInfo) -> None:
        """Raise if label noise is asked for, in a workload without labels.

        Raises:
            LabError: ``label_noise`` is not 0.
        """
        if self.label_noise != 0.0:
            raise LabError(
                f"label noise is for classification; {info.name} has none, got label_noise={self.label_noise}"
            )


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A workload prepared for one run.

    Attributes:
        model: The network with its initial weights.
        batches: An endless stream of training batches, in an order that the seed decides.
        loss: Returns the mean training loss of the model on a batch, with its graph.
        evaluate: Returns ``loss`` and the workload's own metric on a split, or on a fixed part of a large training
            split; where a pretrained network is trained, with the test split also ``old_domain_loss``, the loss on what
            it knew before. It is called in eval mode and without a graph.
        criterion: The loss as a module of the model's output, for optimizers that need its form (K-FAC); None if it is
            neither ``CrossEntropyLoss`` nor ``MSELoss`` of the output itself.
        batches_per_epoch: Number of training batches in one pass over the data.
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
        """The workload prepared for one run; equal requests give equal runs."""


def generator(seed: int, purpose: int) -> torch.Generator:
    """A separate random stream for each purpose, so that an additional draw from one does not change another."""
    return torch.Generator().manual_seed(1_000_003 * seed + purpose)


def shuffled_batches(inputs: Tensor, targets: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
    """An endless stream of batches; each epoch is a new permutation, without its incomplete last batch."""
    while True:
        permutation = torch.randperm(len(inputs), generator=order)
        for start in range(0, len(inputs) - batch_size + 1, batch_size):
            chosen = permutation[start : start + batch_size]
            yield inputs[chosen], targets[chosen]


def with_replacement(inputs: Tensor, targets: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
    """An endless stream of batches whose examples are drawn one by one, whatever was drawn before."""
    while True:
        chosen = torch.randint(len(inputs), (batch_size,), generator=order)
        yield inputs[chosen], targets[chosen]
