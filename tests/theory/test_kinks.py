"""docs/theory/non-smoothness.md, theorems 1 and 2: what differences measure across kinks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import dcao
import kinks
from dcao.operators import FiniteDifferenceOperator, HessianOperator
from helpers.kinked import OneHiddenLayer, digits
from helpers.theorems import TOO_GOOD

# --- one kink


def one_kink(normal: torch.Tensor, offset: float, weight: float):
    return lambda w: weight * torch.relu(normal @ w - offset) + 0.5 * (w * w).sum()


@settings(max_examples=40)
@given(
    angle=st.floats(0.0, 3.1),
    distance=st.floats(-2.0, 2.0),
    weight=st.floats(-3.0, 3.0),
    length=st.floats(0.01, 1.0),
    kind=st.sampled_from(["central", "forward"]),
)
def test_one_kink_adds_its_jump_over_the_length_if_it_lies_within(angle, distance, weight, length, kind):
    normal = torch.tensor([2.0, 0.0], dtype=torch.float64)
    v = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    loss = one_kink(normal, distance, weight)
    operator = FiniteDifferenceOperator(lambda: loss(w), [w], kind=kind, step_length=length, modules=[])
    slope = float(normal @ v)
    where = distance / slope if slope else math.inf  # the kink is at w + where * v
    if min(abs(abs(where) - length), abs(where)) < 1e-9:
        return
    inside = abs(where) < length if kind == "central" else 0.0 < where < length
    over = 2.0 * length if kind == "central" else length
    jump = weight * abs(slope) * inside
    measured = float(v @ operator.matvec(v))
    assert measured == pytest.approx(1.0 + jump / over, abs=1e-9 / length)
    if abs(jump) > 1e-3:
        assert measured != pytest.approx(1.0 + TOO_GOOD * jump / over, abs=1e-9 / length)
    exact = HessianOperator(lambda: loss(w), [w], modules=[])
    assert float(v @ exact.matvec(v)) == pytest.approx(1.0, abs=1e-12)


def test_across_a_kink_the_difference_is_neither_symmetric_nor_linear():
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    loss = one_kink(torch.tensor([1.0, 0.0], dtype=torch.float64), 0.6, 1.0)
    hessian = FiniteDifferenceOperator(lambda: loss(w), [w], step_length=1.0)
    across = torch.tensor([1.0, 0.0], dtype=torch.float64)
    along = torch.tensor([0.5, math.sqrt(0.75)], dtype=torch.float64)  # 0.5 towards the kink, which is at 0.6
    assert float(along @ hessian.matvec(across)) == pytest.approx(0.5 * (1.0 + 0.5))
    assert float(across @ hessian.matvec(along)) == pytest.approx(0.5)
    together = hessian.matvec(across + along) - hessian.matvec(across) - hessian.matvec(along)
    assert float(together.norm()) > 0.3


# --- many kinks


@pytest.mark.parametrize("length", [0.25, 0.5, 1.0])
def test_kinks_at_random_add_their_density_at_any_length_and_a_noise_that_falls_with_it(length):
    # Each of 100 000 weights has its own Poisson process of kinks, one per unit of length, with jumps of mean 0.5 and
    # second moment 0.34; one product measures all of them.
    rate, mean, spread, reach, size = 1.0, 0.5, 0.3, 1.5, 100_000
    draw = np.random.default_rng(0)
    counts = draw.poisson(2.0 * reach * rate, size)
    places = torch.tensor(draw.uniform(-reach, reach, (size, counts.max())))
    jumps = torch.tensor(draw.normal(mean, spread, places.shape) * (np.arange(counts.max()) < counts[:, None]))
    w = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    operator = FiniteDifferenceOperator(
        lambda: (jumps * torch.relu(w[:, None] - places)).sum(), [w], step_length=length * math.sqrt(size)
    )
    measured = operator.matvec(torch.ones(size, dtype=torch.float64))
    variance = rate * (mean**2 + spread**2) / (2.0 * length)
    # Four standard errors; that of the variance from the fourth cumulant, rate * E[jump^4] / (2 length)^3.
    assert float(measured.mean()) == pytest.approx(rate * mean, abs=4.0 * math.sqrt(variance / size))
    error = math.sqrt((2.0 * variance**2 + 0.23 / (2.0 * length) ** 3) / size)
    assert 4.0 * error < (TOO_GOOD - 1.0) * variance
    assert float(measured.var()) == pytest.approx(variance, abs=4.0 * error)
    assert float(measured.var()) > variance / TOO_GOOD
    assert float(measured.mean()) > rate * mean / TOO_GOOD


# --- a network


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_a_relu_network_the_difference_is_the_mean_hessian_and_the_jumps(seed):
    network = OneHiddenLayer(*digits(150), width=16, seed=seed)
    network.train(10)
    v = network.direction(seed)
    for length in (0.03, 0.1):
        kinks = network.kinks(v, length)
        smooth = network.mean_curvature(v, length, kinks)
        jumps = sum(jump for _, jump in kinks) / (2.0 * length)
        measured = network.difference(v, length)
        # What is left is rounding, 1e-16 over the length, as Gauss' rule with 4 points is exact on pieces this short.
        assert len(kinks) >= 3
        assert measured == pytest.approx(smooth + jumps, abs=1e-12)
        assert measured != pytest.approx(smooth + TOO_GOOD * jumps, abs=1e-9)


def test_along_the_gradient_kinks_are_most_of_the_curvature_early_and_next_to_none_of_it_later():
    # Measured: 0.96 to 1.22 times the exact value at first, 1.3 to 4 after 10 steps, 1.00 to 1.02 after 60.
    for seed in range(3):
        for steps, lowest, highest in ((0, 0.9, 1.3), (10, 1.3, 4.5), (60, 0.99, 1.03)):
            network = OneHiddenLayer(*digits(600), width=32, seed=seed)
            network.train(steps)
            (gradient,) = torch.autograd.grad(network.loss(network.weights), network.weights)
            v = gradient / gradient.norm()
            exact = network.curvature(v, 0.0)
            assert all(lowest < network.difference(v, length) / exact < highest for length in (0.01, 0.03, 0.1))


@pytest.mark.parametrize("signs", ["of the network", "at random"])
def test_kinks_of_a_network_do_not_scatter_as_independent_ones_would(signs):
    # Images that are alike flip the same unit, with jumps of one sign, so that the scatter falls more slowly with the
    # length than its root. With the same kinks and random signs it is the root.
    network, generator = OneHiddenLayer(*digits(600), width=32, seed=0), np.random.default_rng(0)
    lengths = (0.03, 0.1, 0.3)
    parts: dict[float, list[float]] = {length: [] for length in lengths}
    for seed in range(400):
        places, jumps = np.array(network.kinks(network.direction(seed), max(lengths))).T
        if signs == "at random":
            jumps = jumps * generator.choice([-1.0, 1.0], len(jumps))
        for length in lengths:
            parts[length].append(float(jumps[abs(places) < length].sum()) / (2.0 * length))
    slope = np.polyfit(np.log(lengths), np.log([np.std(parts[length]) for length in lengths]), 1)[0]
    # 400 directions: each spread to 1 / sqrt(800) = 4 %, the slope over 2.3 e-folds to 0.02.
    expected, tolerance = (-0.15, 0.1) if signs == "of the network" else (-0.5, 0.08)
    assert slope == pytest.approx(expected, abs=tolerance)


# --- what backward returns at a kink


def test_at_a_kink_backward_may_return_what_no_generalised_gradient_contains():
    x = torch.zeros(1, requires_grad=True)
    (F.relu(x) - F.relu(-x)).sum().backward()  # this is x, whose gradient is 1 everywhere
    assert x.grad.item() == 0.0


def test_at_random_weights_no_preactivation_is_at_its_kink():
    network = OneHiddenLayer(*digits(150), width=16, seed=0)
    assert network.nearest_kink() > 0.0
    network.train(60)
    assert network.nearest_kink() > 0.0


# --- the largest eigenvalue of networks


@pytest.mark.parametrize(
    ("kind", "seed"),
    [("MLP", 0), ("MLP", 1), *(pytest.param("CNN", seed, marks=pytest.mark.verify) for seed in range(4))],
)
def test_over_lengths_from_0_01_to_0_3_the_largest_eigenvalue_of_relu_networks_is_the_exact_one_to_10_percent(
    kind, seed
):
    loss, params = trained_as_in_the_benchmark(kind, torch.nn.ReLU, seed)
    exact = sharpness(loss, params, hvp="exact")
    for length in (1e-2, 1e-1, 3e-1):
        assert sharpness(loss, params, hvp="central", step_length=length) == pytest.approx(exact, rel=0.1)


def test_with_tanh_it_is_the_exact_one_to_a_thousandth_at_any_short_length():
    loss, params = trained_as_in_the_benchmark("MLP", torch.nn.Tanh, 0)
    exact = sharpness(loss, params, hvp="exact")
    for length in (1e-4, 1e-3, 1e-2):
        assert sharpness(loss, params, hvp="central", step_length=length) == pytest.approx(exact, rel=1e-3)


def sharpness(loss, params, **how) -> float:
    return float(dcao.hessian_spectrum(loss, params, k=1, num_steps=15, **how).ritz_values[0])


def trained_as_in_the_benchmark(kind: str, activation: type[torch.nn.Module], seed: int):
    """The loss of 256 images after 60 steps of SGD with momentum, on the networks of benchmarks/kinks.py."""
    inputs, labels = digits(1280)
    inputs = inputs.float()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kinks.network(kind, activation)
    kinks.train(model, inputs, labels)
    return (lambda: F.cross_entropy(model(inputs[:256]), labels[:256])), list(model.parameters())
