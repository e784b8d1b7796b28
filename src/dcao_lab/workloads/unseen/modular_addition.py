"""Addition modulo 23 (after Power et al. 2022): two embeddings and an MLP learn the whole table."""

from functools import cache

import torch
from torch import nn

from dcao_lab.workloads.base import Splits, WorkloadInfo, with_replacement
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.networks.perceptron import perceptron
from dcao_lab.workloads.unseen.splits import with_held_out

MODULUS, WIDTH = 23, 32

INFO = WorkloadInfo(
    name="modular_addition",
    title="Modular addition",
    summary=f"all {MODULUS**2} sums modulo {MODULUS}, embeddings of width {WIDTH} and a hidden layer of 128, batch 64",
    target=0.72,
    batch_size=64,
    num_steps=600,
    eval_every=60,
    step_cost=0.6,
)


@cache
def splits() -> Splits:
    """All pairs (529, 2) and their sums; every split has all of them."""
    pairs = torch.cartesian_prod(torch.arange(MODULUS), torch.arange(MODULUS))
    table = (pairs, pairs.sum(1) % MODULUS)
    return with_held_out(table, table)


def build() -> nn.Module:
    """One table of embeddings for both summands, and a hidden layer with ReLU: 12 023 parameters."""
    return nn.Sequential(nn.Embedding(MODULUS, WIDTH), nn.Flatten(), *perceptron(2 * WIDTH, 128, MODULUS))


WORKLOADS = (ClassificationWorkload(INFO, build, splits, num_classes=MODULUS, draw=with_replacement),)
