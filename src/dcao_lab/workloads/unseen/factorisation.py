"""A recommender by matrix factorisation with biases (Koren et al. 2009), on ratings that such factors have made."""

from functools import cache

import torch
from torch import nn

from dcao_lab.workloads.base import Splits, WorkloadInfo
from dcao_lab.workloads.examples import ExampleWorkload
from dcao_lab.workloads.networks.factors import Factors
from dcao_lab.workloads.unseen.splits import with_held_out

NUM_USERS, NUM_ITEMS, NUM_RATINGS, NUM_TRAIN = 500, 300, 15000, 12000
RANK = 16  # of the model; the ratings have 4

INFO = WorkloadInfo(
    name="factorisation",
    title="Matrix factorisation",
    summary=f"{NUM_TRAIN} ratings of {NUM_ITEMS} items by {NUM_USERS} users, rank {RANK} with biases, batch 256",
    metric="loss",
    higher_is_better=False,
    target=0.79,
    batch_size=256,
    num_steps=600,
    eval_every=60,
    step_cost=0.4,
)


@cache
def splits() -> Splits:
    """Pairs of user and item, and ratings from 1 to 5."""
    draws = torch.Generator().manual_seed(0)
    users, items = 0.55 * torch.randn(NUM_USERS, 4, generator=draws), 0.55 * torch.randn(NUM_ITEMS, 4, generator=draws)
    biases = [0.4 * torch.randn(number, generator=draws) for number in (NUM_USERS, NUM_ITEMS)]
    pairs = torch.stack([torch.randint(0, n, (NUM_RATINGS,), generator=draws) for n in (NUM_USERS, NUM_ITEMS)], 1)
    user, item = pairs.T
    liking = biases[0][user] + biases[1][item] + (users[user] * items[item]).sum(1)
    ratings = (3.5 + liking + 0.5 * torch.randn(NUM_RATINGS, generator=draws)).round().clamp(1, 5)
    return with_held_out((pairs[:NUM_TRAIN], ratings[:NUM_TRAIN]), (pairs[NUM_TRAIN:], ratings[NUM_TRAIN:]))


def build() -> nn.Module:
    """A table of factors and one of biases for users and for items: 13 600 parameters."""
    return Factors(NUM_USERS, NUM_ITEMS, RANK, mean=splits()["train"][1].mean().item())


WORKLOADS = (ExampleWorkload(info=INFO, build=build, splits=splits),)
