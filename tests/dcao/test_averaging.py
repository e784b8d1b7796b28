"""Averaged weights against the sum that they stand for, and what AveragedModel makes of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from dcao import DCAO, polynomial_average


def shares(gamma: int, num_steps: int) -> list[float]:
    """Share of each step's weights: step i counts ``i (i + 1) ... (i + gamma - 1)``, ``i ** gamma`` to first order.

    What Shamir and Zhang's recursion comes to (2013, section 4); for gamma 0 and 1 the mean and the mean by number.
    """
    rising = [math.prod(range(i, i + gamma)) for i in range(1, num_steps + 1)]
    return [each / sum(rising) for each in rising]


@pytest.mark.parametrize("gamma", [0.0, 1.0, 8.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_average_is_the_weighted_sum(gamma, dtype):
    torch.manual_seed(0)
    model = nn.Linear(3, 2).to(dtype)
    average = AveragedModel(model, multi_avg_fn=polynomial_average(gamma))
    seen = []
    for _ in range(12):
        for p in model.parameters():
            nn.init.normal_(p)
        seen.append(model.weight.detach().double().clone())
        average.update_parameters(model)
    expected = sum(share * each for share, each in zip(shares(int(gamma), 12), seen, strict=True))
    # each of 12 updates rounds once, of values of size 3 at most; the errors shrink with the average
    assert (average.module.weight.double() - expected).abs().max() <= 12 * 3 * torch.finfo(dtype).eps


def test_batchnorms_statistics_are_averaged_and_its_counter_is_copied():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    average = AveragedModel(model, multi_avg_fn=polynomial_average(1.0), use_buffers=True)
    means = []
    for _ in range(5):
        model(torch.randn(8, 4))
        means.append(model[1].running_mean.clone())
        average.update_parameters(model)
    expected = sum(share * mean for share, mean in zip(shares(1, 5), means, strict=True))
    torch.testing.assert_close(average.module[1].running_mean, expected)
    assert average.module[1].num_batches_tracked == 5


def test_of_a_noisy_quadratic_the_average_is_nearer_to_the_minimum_than_the_last_weights():
    # gradient noise of 1 around 0 at a constant lr: the last iterate scatters, its average over a window of t / 9
    # correlated steps scatters less; over 200 seeds the mean square falls to less than a quarter (measured: to 7 %)
    last, averaged = 0.0, 0.0
    for seed in range(200):
        noise = torch.Generator().manual_seed(seed)
        weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        model = nn.ParameterList([weight])
        average = AveragedModel(model, multi_avg_fn=polynomial_average())
        optimizer = torch.optim.SGD([weight], lr=0.5)
        for _ in range(200):
            weight.grad = weight.detach() + torch.randn(1, generator=noise, dtype=torch.float64)
            optimizer.step()
            average.update_parameters(model)
        last += weight.item() ** 2
        averaged += average.module[0].item() ** 2
    assert averaged < 0.25 * last


def test_it_does_nothing_to_the_training_that_it_watches():
    def trained(*, averages: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        average = AveragedModel(model, multi_avg_fn=polynomial_average(), use_buffers=True)
        optimizer = DCAO(torch.optim.AdamW(model.parameters(), lr=1e-3))
        x, y = torch.randn(32, 4), torch.randn(32, 1)
        for _ in range(20):
            optimizer.minimize(lambda: nn.functional.mse_loss(model(x), y))
            if averages:
                average.update_parameters(model)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(trained(averages=True), trained(averages=False))


@pytest.mark.parametrize("gamma", [-1.0, math.inf, math.nan])
def test_a_gamma_without_meaning_is_refused(gamma):
    with pytest.raises(ValueError, match=rf"gamma must be at least 0 and finite, got {gamma}"):
        polynomial_average(gamma)
