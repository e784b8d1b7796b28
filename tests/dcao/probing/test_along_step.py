"""``batch`` and ``load`` against their definition, written out over dense matrices."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dcao.probing.directional import StepVectors, directional
from helpers.reference import HandStep, directional_parts

SIZE = 5


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_batches(count: int) -> tuple[list[HandStep], list[Tensor]]:
    """Gradients, displacements by a positive P, and symmetric Hessians that are not positive."""
    generator = seeded(count)
    steps, hessians = [], []
    for _ in range(count):
        gradient = torch.randn(SIZE, generator=generator, dtype=torch.float64)
        P = 0.5 + torch.rand(SIZE, generator=generator, dtype=torch.float64)
        A = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
        one = torch.ones(SIZE, dtype=torch.float64)
        constants = {"decay": 0.0 * one, "lr": one, "step_size": one}
        steps.append(HandStep(gradient=gradient, displacement=gradient / P, preconditioner=P, **constants))
        hessians.append(A + A.T)
    return steps, hessians


def as_vectors(step: HandStep, H: Tensor, weight: float = 1.0, past: Tensor | None = None) -> StepVectors:
    return StepVectors(
        gradient=[step.gradient],
        displacement=[step.displacement],
        past=None if past is None else [past],
        product=lambda v, _: [H @ v[0]],
        weight=weight,
    )


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (3.0, 1.0, 7.0, 2.0)], ids=["equal", "ragged"])
def test_several_batches_give_the_mean_over_all_pairs_of_different_ones(weights):
    steps, hessians = random_batches(4)
    measured = directional([as_vectors(*both, w) for *both, w in zip(steps, hessians, weights, strict=True)])
    total, signal = directional_parts(steps, hessians, weights)
    assert (measured.total, measured.signal) == pytest.approx((total, signal), rel=1e-12)
    assert measured.noise == pytest.approx(total - signal, rel=1e-12)
    assert measured.trust == 1.0


def test_with_several_batches_the_past_is_not_looked_at():
    steps, hessians = random_batches(3)
    without = directional([as_vectors(s, H) for s, H in zip(steps, hessians, strict=True)])
    misleading = torch.full((SIZE,), 1e6, dtype=torch.float64)
    assert directional([as_vectors(s, H, past=misleading) for s, H in zip(steps, hessians, strict=True)]) == without


def test_one_batch_takes_its_signal_from_the_past():
    (now, before), (H, _) = random_batches(2)
    measured = directional([as_vectors(now, H, past=before.displacement)])
    slope = now.gradient @ now.displacement
    assert measured.total == pytest.approx(float(now.displacement @ H @ now.displacement / slope), rel=1e-12)
    assert measured.signal == pytest.approx(float(before.displacement @ H @ now.displacement / slope), rel=1e-12)


def test_one_batch_without_a_past_is_taken_for_noise_altogether():
    (step,), (H,) = random_batches(1)
    measured = directional([as_vectors(step, H)])
    assert measured.signal == 0.0
    assert measured.noise == measured.total


def test_the_weights_of_batches_are_relative():
    steps, hessians = random_batches(3)
    light, heavy = (
        directional([as_vectors(s, H, w * scale) for s, H, w in zip(steps, hessians, (1.0, 2.0, 5.0), strict=True)])
        for scale in (1.0, 64.0)
    )
    assert (light.total, light.signal) == pytest.approx((heavy.total, heavy.signal), rel=1e-12)


UNTRUSTED = [
    ("zero", 0.0, "there is no step: the gradient is zero, or lr is 0"),
    ("nan", math.nan, "the gradient is not finite"),
    ("inf", math.inf, "the gradient is not finite"),
]


@pytest.mark.parametrize(("name", "value", "reason"), UNTRUSTED, ids=[row[0] for row in UNTRUSTED])
def test_a_gradient_that_says_nothing_is_not_trusted(name, value, reason):
    gradient = torch.full((SIZE,), value)
    measured = directional(
        [StepVectors(gradient=[gradient], displacement=[gradient], past=None, product=lambda v, _: v, weight=1.0)]
    )
    assert (measured.trust, measured.reason) == (0.0, reason)
    assert math.isnan(measured.total)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_one_step_away_is_an_infinite_s_to_be_acted_on(value):
    gradient = torch.ones(SIZE)
    measured = directional(
        [
            StepVectors(
                gradient=[gradient],
                displacement=[gradient],
                past=[gradient],
                product=lambda v, _: [v[0] * value],
                weight=1.0,
            )
        ]
    )
    assert (measured.total, measured.noise, measured.trust) == (math.inf, math.inf, 1.0)
    assert measured.reason == "the gradient one step away is not finite"


@pytest.mark.parametrize("exponents", [(0, 0), (70, -40), (-90, -300), (400, 300)])
def test_what_has_been_divided_by_powers_of_two_is_counted_in_full(exponents):
    steps, hessians = random_batches(3)
    plain = directional([as_vectors(*both) for both in zip(steps, hessians, strict=True)])
    # Gradients times 2**a and displacements times 2**b: s and length are times 2**(2b) / 2**(a + b) and 2**b.
    of_gradient, unit = exponents
    divided = [replace(as_vectors(*both), exponents=exponents) for both in zip(steps, hessians, strict=True)]
    measured = directional(divided)
    assert measured.total == math.ldexp(plain.total, unit - of_gradient)
    assert measured.signal == pytest.approx(math.ldexp(plain.signal, unit - of_gradient), rel=1e-12)
    assert measured.length == math.ldexp(plain.length, unit)


def test_batches_of_different_powers_of_two_have_the_mean_of_what_they_stand_for():
    steps, hessians = random_batches(3)
    plain = directional([as_vectors(*both) for both in zip(steps, hessians, strict=True)])
    apart = [
        replace(
            as_vectors(step, H),
            displacement=[step.displacement * 2.0**-unit],
            gradient=[step.gradient * 2.0**unit],
            exponents=(-unit, unit),
        )
        for step, H, unit in zip(steps, hessians, (-3, 0, 40), strict=True)
    ]
    measured = directional(apart)
    assert (measured.total, measured.signal) == pytest.approx((plain.total, plain.signal), rel=1e-12)
    assert measured.length == pytest.approx(plain.length, rel=1e-12)
