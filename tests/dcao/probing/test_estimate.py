"""The summary numbers of an estimate against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcao.probing.estimate import CurvatureEstimate, effective_rank, ritz_trust
from dcao.probing.settings import ProbeSettings
from dcao.spectra.lanczos import LanczosResult, LanczosStatus

POSITIVE = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8)


def estimate(*ritz_values: float) -> CurvatureEstimate:
    return CurvatureEstimate(step=0, measure="hessian", ritz_values=ritz_values)


def test_the_spectral_gap_is_between_the_two_largest():
    assert estimate(5.0, 3.0, -1.0).spectral_gap == 2.0


def test_one_ritz_value_has_no_gap_and_none_has_no_rank():
    assert estimate(5.0).spectral_gap is None
    assert estimate().spectral_gap is None
    assert estimate().effective_rank is None


def test_the_effective_rank_is_the_exponential_of_the_entropy():
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    expected = torch.distributions.Categorical(probs=shares).entropy().exp().item()  # torch's own entropy
    assert estimate(10.0, 6.0, 4.0).effective_rank == pytest.approx(expected, rel=1e-9)


def test_negative_and_zero_eigenvalues_carry_no_share():
    assert effective_rank([2.0, 2.0, 0.0, -7.0]) == 2.0
    assert effective_rank([-1.0, 0.0]) == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_eigenvalue_that_is_not_finite_leaves_no_shares_to_speak_of(value):
    assert effective_rank([value, 1.0]) in (0.0, 1.0)  # inf: none; nan: as if it were not there


@given(POSITIVE, st.sampled_from([1e-9, 1.0, 1e9]))
def test_the_effective_rank_is_between_one_and_the_count_at_any_scale(values, scale):
    rank = effective_rank([scale * value for value in values])
    assert 1.0 - 1e-9 <= rank <= len(values) + 1e-9
    assert rank == pytest.approx(effective_rank(values), rel=1e-9)


def result(values: list[float], residuals: list[float], status: LanczosStatus) -> LanczosResult:
    empty = torch.zeros(0)
    return LanczosResult(
        num_starts=1,
        ritz_values=torch.tensor(values, dtype=torch.float64),
        residuals=torch.tensor(residuals, dtype=torch.float64),
        ritz_vectors=None,
        status=status,
        num_matvecs=1,
        cost=1.0,
        reason="",
        alphas=empty,
        betas=empty,
    )


TRUST = [
    ("settled", result([4.0], [0.04], LanczosStatus.CONVERGED), 0.99),
    ("half", result([4.0], [2.0], LanczosStatus.MAX_STEPS), 0.5),
    ("residual above the value", result([4.0], [5.0], LanczosStatus.MAX_STEPS), 0.0),
    ("negative value", result([-4.0], [1.0], LanczosStatus.MAX_STEPS), 0.75),
    ("zero Hessian", result([0.0], [0.0], LanczosStatus.INVARIANT), 1.0),
    ("not finite", result([4.0], [0.0], LanczosStatus.NONFINITE), 0.0),
    ("nothing", result([], [], LanczosStatus.MAX_STEPS), 0.0),
]


@pytest.mark.parametrize(("name", "outcome", "expected"), TRUST, ids=[row[0] for row in TRUST])
def test_trust_is_one_minus_the_relative_residual(name, outcome, expected):
    assert ritz_trust(outcome) == pytest.approx(expected)


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match=r"measure must be one of load, batch, hessian, preconditioned, got 'sharp'"):
        ProbeSettings("sharp")
