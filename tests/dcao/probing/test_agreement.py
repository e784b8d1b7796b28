"""How far successive gradients agree, against closed forms and simulated noise."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn, optim
from torch.nn import functional as F

from dcao import DCAO, MemoryRecorder, ProbeSettings
from dcao.blocks import blocks
from dcao.probing.agreement import LEAST_IN_COMMON, agreement, cosine
from dcao.probing.batch import Batch
from dcao.vectors import flatten


def batch(*pieces: torch.Tensor) -> Batch:
    return Batch(closure=lambda: None, gradient=list(pieces))


def agreed(first: torch.Tensor, second: torch.Tensor, dtype: torch.dtype = torch.float32) -> float | None:
    return agreement([batch(second)], None if first is None else [first], dtype=dtype)


@pytest.mark.parametrize("degrees", [0, 30, 60, 89, 120, 180])
@pytest.mark.parametrize("length", [1e-38, 1e-20, 1.0, 1e20, 1e38])
def test_it_is_the_cosine_of_the_angle_at_any_length(degrees, length):
    # Both entries are not zero in both vectors. The roundings of float32 are 6e-8, those of 1e-38 times larger where
    # a component of it is a subnormal number: 1e-38 sin(1 degree) is 1.7e-40, with a resolution of 1.4e-45.
    angles = torch.deg2rad(torch.tensor([20.0, 20.0 + degrees], dtype=torch.float64))
    first, second = (length * torch.stack([torch.cos(angle), torch.sin(angle)]) for angle in angles)
    expected = pytest.approx(math.cos(math.radians(degrees)), abs=1e-5)
    assert agreed(first.float(), second.float()) == expected
    assert agreed((1e-20 / length * first).float(), second.float()) == expected  # neither's length matters


@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
def test_it_is_the_share_of_a_gradient_that_is_signal(ratio):
    # G with |G| = 1 and noise with E|n|^2 = 1 / ratio in 10000 dimensions: |G|^2 / E|g|^2 = ratio / (1 + ratio). The
    # cosine of two batches errs by about 1 / sqrt(10000) = 0.01 at most, the mean of 16 pairs by 0.003; five times
    # that.
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(10000, generator=generator)
    signal /= signal.norm()
    found = []
    for _ in range(16):
        first, second = (
            signal + torch.randn(10000, generator=generator) / math.sqrt(ratio * 10000.0) for _ in range(2)
        )
        found.append(agreed(first, second))
    assert sum(found) / 16 == pytest.approx(ratio / (1.0 + ratio), abs=0.015)


def test_of_several_batches_it_is_the_mean_over_neighbours():
    east, north_east, north = (torch.tensor(each) for each in ([1.0, 1e-6], [1.0, 1.0], [1e-6, 1.0]))
    half = math.sqrt(0.5)
    assert agreement([batch(east), batch(north_east)], None, dtype=torch.float32) == pytest.approx(half, abs=1e-5)
    # 45 degrees, 45 degrees, and 0; the training batch before is not one of the probe's
    several = [batch(each) for each in (east, north_east, north, north)]
    for past in (None, -east):
        found = agreement(several, past, dtype=torch.float32)
        assert found == pytest.approx((half + half + 1.0) / 3.0, abs=1e-5)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.zeros(3), torch.ones(3)),
        (torch.ones(3), torch.zeros(3)),
        (torch.tensor([1.0, math.nan, 1.0]), torch.ones(3)),
        (torch.ones(3), torch.tensor([1.0, math.inf, 1.0])),
        (None, torch.ones(3)),
        (torch.ones(4), torch.ones(3)),  # a group has been added since
        (torch.ones(0), torch.ones(0)),
    ],
    ids=["zero before", "zero", "nan", "inf", "no batch before", "other size", "empty"],
)
def test_where_nothing_can_be_compared_it_is_not_known(first, second):
    assert agreed(first, second) is None


def test_gradients_of_different_weights_say_nothing():
    # A part p of each gradient's squared length lies on entries that the other has too.
    for part, is_known in ((0.9 * LEAST_IN_COMMON, False), (1.1 * LEAST_IN_COMMON, True)):
        mine, common = math.sqrt(1.0 - part), math.sqrt(part)
        found = agreed(torch.tensor([mine, common, 0.0]), torch.tensor([0.0, common, mine]))
        assert found == (pytest.approx(part, abs=1e-6) if is_known else None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_of_half_precision_it_is_that_of_the_numbers_that_are_there(dtype):
    # Squares of float16 overflow from 256 on.
    generator = torch.Generator().manual_seed(0)
    first, second = (3e4 * torch.rand(1000, generator=generator).to(dtype) + 1.0 for _ in range(2))
    expected = F.cosine_similarity(first.double(), second.double(), dim=0).item()
    assert agreed(flatten([first], dtype=torch.float32), second) == pytest.approx(expected, abs=1e-5)


def test_pieces_are_one_vector():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(12, generator=generator), torch.randn(12, generator=generator)
    pieces = [[v[:6].view(2, 3), v[6:6], v[6:]] for v in (first, second)]
    expected = F.cosine_similarity(first.double(), second.double(), dim=0).item()
    assert cosine(*map(blocks, pieces)) == pytest.approx(expected, abs=1e-6)
    assert agreement([batch(*pieces[1])], [first], dtype=torch.float32) == pytest.approx(expected, abs=1e-6)


def test_sparse_gradients_are_those_of_a_table():
    table = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 2.0]])
    assert agreed(table.flatten(), table.to_sparse()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("measure", ["load", "batch", "hessian", "preconditioned"])
def test_a_probe_compares_the_gradients_that_torch_has_computed(measure):
    def losses():
        torch.manual_seed(0)
        layer = nn.Linear(6, 3)
        x, y = torch.randn(3, 16, 6), torch.randint(0, 3, (3, 16))
        return layer, [lambda i=i: F.cross_entropy(layer(x[i]), y[i]) for i in range(3)]

    recorder = MemoryRecorder()
    layer, batches = losses()
    optimizer = DCAO(optim.SGD(layer.parameters(), lr=0.1), measure=ProbeSettings(measure), every=1, recorder=recorder)
    lrs = []
    for loss in batches:
        optimizer.minimize(loss)
        lrs.append(optimizer.param_groups[0]["lr"])
    layer, batches = losses()
    twin, gradients = optim.SGD(layer.parameters(), lr=0.1), []
    for loss, lr in zip(batches, lrs, strict=True):
        twin.zero_grad()
        loss().backward()
        gradients.append(flatten([p.grad for p in layer.parameters()], dtype=torch.float64))
        twin.param_groups[0]["lr"] = lr
        twin.step()
    expected = [F.cosine_similarity(a, b, dim=0).item() for a, b in pairwise(gradients)]
    found = [record.estimate.agreement for record in recorder.records]
    assert found == [None, *(pytest.approx(each, abs=1e-5) for each in expected)]
    assert any(each < 0.0 for each in expected)
    # Policies are given the size: at a right angle there is noise, on the way back there is none.
    sizes = [record.observation.agreement for record in recorder.records]
    assert sizes == [None, *map(abs, found[1:])]
