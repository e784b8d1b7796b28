"""A SIREN (Sitzmann et al. 2020) that learns a patch of a photograph; its error is measured on all pixels."""

from functools import cache

import torch
from torch import nn

from dcao_lab.workloads.base import Splits, WorkloadInfo
from dcao_lab.workloads.examples import ExampleWorkload
from dcao_lab.workloads.networks.siren import Sine
from dcao_lab.workloads.unseen.splits import with_held_out

SIZE = 64  # pixels of the patch, both ways
WIDTH = 64

INFO = WorkloadInfo(
    name="siren",
    title="SIREN",
    summary=f"grey patch of {SIZE} by {SIZE} pixels of scikit-learn's china.jpg, SIREN of width {WIDTH}, batch 512",
    metric="loss",
    higher_is_better=False,
    target=0.043,
    batch_size=512,
    num_steps=600,
    eval_every=60,
    step_cost=0.7,
)


@cache
def splits() -> Splits:
    """Positions (4096, 2) and grey values (4096, 1) from -1 to 1; every split has all of them."""
    from sklearn.datasets import load_sample_image

    grey = load_sample_image("china.jpg")[100:228:2, 200:328:2].mean(-1)
    values = torch.tensor(grey / 127.5 - 1, dtype=torch.float32).flatten().unsqueeze(1)
    axis = torch.linspace(-1, 1, SIZE)
    pixels = (torch.cartesian_prod(axis, axis), values)
    return with_held_out(pixels, pixels)


def build() -> nn.Module:
    """Two layers of sines and a linear one: 4 417 parameters."""
    return nn.Sequential(Sine(2, WIDTH, is_first=True), Sine(WIDTH, WIDTH, is_first=False), nn.Linear(WIDTH, 1))


WORKLOADS = (ExampleWorkload(info=INFO, build=build, splits=splits),)
