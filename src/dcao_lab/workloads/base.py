"""What a workload offers to the training loop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
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
        num_steps: Training steps of a run, unless told otherwise.
        eval_every: Steps from one evaluation to the next, unless told otherwise.
        step_cost: Rough milliseconds of a training step on one core; only the time left that is shown uses it.
    """

    name: str
    title: str
    summary: str
    metric: str
    higher_is_better: bool
    num_steps: int
    eval_every: int
    step_cost: float


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A workload made ready for one run.

    Attributes:
        model: The network at its initial weights.
        batches: Training batches without end, in an order that the seed decides.
        loss: Mean training loss of the model on a batch, with its graph.
        evaluate: Metrics on the test data, among them ``test_loss`` and the workload's own.
    """

    model: nn.Module
    batches: Iterator[Batch]
    loss: Callable[[Batch], Tensor]
    evaluate: Callable[[], dict[str, float]]


class Workload(Protocol):
    """Data, network, loss and metric that belong together."""

    @property
    def info(self) -> WorkloadInfo:
        """Facts about the workload."""

    def start(self, seed: int) -> Problem:
        """The workload made ready for one run; the same seed gives the same run."""


def generator(seed: int, purpose: int) -> torch.Generator:
    """A random stream of its own for each purpose, so that one draw more in one does not move the other."""
    return torch.Generator().manual_seed(1_000_003 * seed + purpose)


def build_seeded(build: Callable[[], M], seed: int) -> M:
    """The module that ``build`` makes, its weights decided by ``seed``; leaves the global stream alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def shuffled_batches(inputs: Tensor, targets: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
    """Batches without end: every epoch a new permutation, its incomplete last batch left out."""
    while True:
        permutation = torch.randperm(len(inputs), generator=order)
        for start in range(0, len(inputs) - batch_size + 1, batch_size):
            chosen = permutation[start : start + batch_size]
            yield inputs[chosen], targets[chosen]
