"""A Transformer of an encoder and a decoder (Vaswani et al. 2017), with dropout, that learns to reverse sequences."""

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import CPU, Batch, Splits, WorkloadInfo
from dcao_lab.workloads.examples import ExampleWorkload
from dcao_lab.workloads.networks.sequence_transformer import SequenceTransformer
from dcao_lab.workloads.unseen.splits import with_held_out

LENGTH, NUM_SYMBOLS = 8, 10

INFO = WorkloadInfo(
    name="reversal",
    title="Reversal",
    summary=f"sequences of {LENGTH} symbols to reverse, Transformer of one layer each way, batch 32",
    target=0.52,
    batch_size=32,
    num_steps=400,
    eval_every=40,
    step_cost=6.0,
)


def sequences(number: int, draws: torch.Generator, device: torch.device = CPU) -> Batch:
    """Random sequences (number, 8), and the same reversed."""
    source = torch.randint(0, NUM_SYMBOLS, (number, LENGTH), generator=draws).to(device)
    return source, source.flip(1)


def new_sequences(known: Tensor, answers: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
    """An endless stream of batches of new sequences."""
    while True:
        yield sequences(batch_size, order, known.device)


def splits() -> Splits:
    """Sequences to evaluate: some like those of training, and others."""
    return with_held_out(*(sequences(256, torch.Generator().manual_seed(seed)) for seed in (4, 5)))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of a symbol."""
    return F.cross_entropy(model(*batch), batch[1])


def metrics(model: nn.Module, batch: Batch) -> dict[str, float]:
    """``loss``, and ``accuracy``, the share of right symbols."""
    right = model(*batch).argmax(1) == batch[1]
    return {"loss": loss(model, batch).item(), "accuracy": right.float().mean().item()}


build = partial(SequenceTransformer, NUM_SYMBOLS, LENGTH)
_WORKLOAD = ExampleWorkload(info=INFO, build=build, splits=splits, loss=loss, metrics=metrics, draw=new_sequences)
WORKLOADS = (_WORKLOAD,)
