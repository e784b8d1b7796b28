"""docs/theory/convergence.md, theorem 5: the bias where a probe looks at the very batch that it then steps on."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dcao import DCAO
from dcao.policies import LearningRate
from dcao.probing.settings import ProbeSettings
from helpers.theorems import TOO_GOOD

DOWN, UP = 0.8, 1.1  # the rule's clip


def floor(variance: float, down: float = DOWN, up: float = UP) -> float:
    """Squared gradient below which a probed step may lead away on average, for small lr."""
    return (up - down) ** 2 / (4.0 * down * up) * variance


share = st.floats(0.02, 1.0)


@settings(max_examples=300)
@given(
    down=st.floats(0.3, 1.0),
    up=st.floats(1.0, 2.0),
    gradients=st.lists(st.floats(-3.0, 3.0), min_size=2, max_size=6),
    shares=st.lists(share, min_size=6, max_size=6),
)
def test_no_distribution_of_batches_and_no_choice_of_factors_beats_the_bound(down, up, gradients, shares):
    # On one weight, where the worst choice is known: the smallest factor where the step helps, the largest where not.
    g = torch.tensor(gradients, dtype=torch.float64)
    p = torch.tensor(shares[: len(g)], dtype=torch.float64)
    p = p / p.sum()
    mean = (p * g).sum()
    assume(abs(mean) > 1e-6)
    variance = float((p * (g - mean) ** 2).sum())
    factors = torch.where(g * mean > 0.0, down, up)
    progress = (p * factors * g * mean).sum()
    assert progress >= down * up / (down + up) * (mean**2 - floor(variance, down, up)) - 1e-12


def test_two_batches_of_equal_size_and_opposite_sign_attain_it():
    share_up = DOWN / (DOWN + UP)  # of the batches that ask for the opposite
    mean = 1.0 - 2.0 * share_up
    variance = 1.0 - mean**2
    progress = DOWN * (1.0 - share_up) - UP * share_up
    assert progress == pytest.approx(0.0, abs=1e-15)
    assert mean**2 == pytest.approx(floor(variance), rel=1e-12)
    assert mean**2 > floor(variance) / TOO_GOOD


@pytest.mark.parametrize("probes", ["training batch", "batch of its own"])
def test_dcao_stands_still_on_average_where_its_probes_look_at_these_batches(probes):
    # Gradient 1 and a large curvature, or -1 and a small one. On its own batch the rule takes 0.8 and 1.1 of lr.
    def step(gradient: float, curvature: float, probed_curvature: float) -> float:
        weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        optimizer = DCAO(
            torch.optim.SGD([weight], lr=1e-3),
            policy=LearningRate(1.5, gamma_down=DOWN, gamma_up=UP, settle=False),
            measure=ProbeSettings("hessian"),
            every=1,
            guard=False,
            probe_batch=None
            if probes == "training batch"
            else lambda: (weight + probed_curvature * weight**2 / 2.0).sum(),
        )
        optimizer.minimize(lambda: (gradient * weight + curvature * weight**2 / 2.0).sum())
        return weight.item()

    large, small = 1e5, 1.0
    share_up = DOWN / (DOWN + UP)
    moves = (
        {each: step(1.0, large, each) for each in (large, small)},
        {each: step(-1.0, small, each) for each in (large, small)},
    )
    if probes == "training batch":
        mean = (1.0 - share_up) * moves[0][large] + share_up * moves[1][small]
        assert mean == pytest.approx(0.0, abs=1e-16)
    else:  # drawn independently of the training batch, with the same shares
        down = share_up * moves[0][small] + (1.0 - share_up) * moves[0][large]
        up = share_up * moves[1][small] + (1.0 - share_up) * moves[1][large]
        mean = (1.0 - share_up) * down + share_up * up
        factor = share_up * UP + (1.0 - share_up) * DOWN
        assert mean == pytest.approx(-1e-3 * factor * (1.0 - 2.0 * share_up), rel=1e-9)


def test_the_floor_of_the_default_and_of_the_proposals_clip_are_those_of_the_page():
    assert math.sqrt(floor(1.0)) == pytest.approx(0.160, abs=5e-4)
    assert math.sqrt(floor(1.0, 0.8, 1.0)) == pytest.approx(0.112, abs=5e-4)
