"""The largest eigenvalue of a mini-batch's Hessian: too large on average, by as much as the page says."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from dcao import sharpness
from helpers.frozen_optimizer import seeded
from helpers.theorems import TOO_GOOD


def test_over_all_batches_the_mean_sharpness_is_never_below_that_of_all_data():
    inputs = torch.randn(6, 3, generator=seeded(0), dtype=torch.float64)
    targets = torch.randn(6, generator=seeded(1), dtype=torch.float64)
    weight = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def sharpness_of(rows: list[int]) -> float:
        return sharpness(lambda: (inputs[rows] @ weight - targets[rows]).square().mean(), [weight])

    whole = sharpness_of(list(range(6)))
    means = []
    for size in (1, 2, 3, 5):
        each = [sharpness_of(list(rows)) for rows in itertools.combinations(range(6), size)]
        means.append(sum(each) / len(each))
    assert means == sorted(means, reverse=True)  # the smaller the batch, the larger
    assert means[-1] > whole


EIGENVALUES = torch.tensor([1.0, 0.5, 0.3, 0.2, 0.1], dtype=torch.float64)


def hessians(batch_size: int, count: int, generator: torch.Generator) -> Tensor:
    """Of least squares with normal inputs, whose covariance has these eigenvalues, ``(count, 5, 5)``.

    For normal inputs the entry ``x_j x_1`` of one sample has the variance ``lambda_j lambda_1``.
    """
    inputs = torch.randn(count, batch_size, 5, generator=generator, dtype=torch.float64) * EIGENVALUES.sqrt()
    return inputs.mT @ inputs / batch_size


def mean_bias(batch_size: int, num_batches: int) -> tuple[float, float]:
    """E lambda_1(H_B) - lambda_1 and its standard error, less the part ``v_1' (H_B - H) v_1`` whose mean is zero."""
    generator, samples = seeded(batch_size), []
    for _ in range(num_batches // 500):
        each = hessians(batch_size, 500, generator)
        samples.append(torch.linalg.eigvalsh(each)[:, -1] - each[:, 0, 0])
    bias = torch.cat(samples)
    return bias.mean().item(), (bias.std() / len(bias) ** 0.5).item()


def predicted_bias(batch_size: int) -> float:
    """Theorem 7: the sum of ``Var(v_j' h v_1) / (lambda_1 - lambda_j)`` over B."""
    others = EIGENVALUES[1:]
    return (others / (1.0 - others)).sum().item() / batch_size


def test_the_bias_is_the_predicted_one_to_2_percent_and_not_5_percent_smaller():
    bias, standard_error = mean_bias(1000, 8000)
    # Of relative size 1 / B times a few is the next order; the standard error is 1 % of the bias.
    assert standard_error < 0.012 * predicted_bias(1000)
    assert bias == pytest.approx(predicted_bias(1000), abs=3.0 * standard_error)
    assert bias > predicted_bias(1000) / TOO_GOOD + standard_error


def test_the_variance_of_a_batchs_sharpness_is_that_of_one_samples_curvature_over_the_batch_size():
    # Var(v_1' h v_1) = 2 lambda_1^2 for normal inputs; 4000 batches give a variance to 2.2 %
    generator = seeded(3)
    each = torch.cat([torch.linalg.eigvalsh(hessians(1000, 500, generator))[:, -1] for _ in range(8)])
    assert each.var().item() == pytest.approx(2.0 / 1000, rel=0.07)


# --- many directions


@pytest.mark.parametrize(("spike", "expected"), [(None, 4.0), (1.5, 4.0), (4.0, 4.0 + 4.0 / 3.0)])
def test_with_as_many_samples_as_directions_noise_alone_has_four_times_its_curvature(spike, expected):
    # (1 + sqrt(n / B))^2 = 4 times the common eigenvalue 1, which hides every one up to 1 + sqrt(n / B) = 2; above, as
    # spike + (n / B) spike / (spike - 1). At n = 400 the largest eigenvalue differs from its limit by n^(-2/3), 2 %.
    size = num_samples = 400
    generator, tops = seeded(1), []
    scale = torch.ones(size, dtype=torch.float64)
    scale[0] = 1.0 if spike is None else spike**0.5
    for _ in range(8):
        inputs = torch.randn(num_samples, size, generator=generator, dtype=torch.float64) * scale
        tops.append(torch.linalg.matrix_norm(inputs, 2).item() ** 2 / num_samples)
    assert sum(tops) / len(tops) == pytest.approx(expected, rel=0.04)
