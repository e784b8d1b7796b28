"""The edge under mini-batch noise: by algebra, over all paths of torch's own optimizers, and by a search."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import find, given
from hypothesis import settings as search_settings
from hypothesis import strategies as st
from torch import Tensor

sp = pytest.importorskip("sympy", reason="dcao[theory] is not installed")

from dcao.updates.dynamics import StepDynamics  # noqa: E402
from dcao.updates.stability import load_number  # noqa: E402
from helpers.frozen_optimizer import mean_square_growth  # noqa: E402
from helpers.rule_runs import SMALL, coupled_decay, edges, frozen_at, preconditioner  # noqa: E402
from helpers.theorems import TOO_GOOD  # noqa: E402
from helpers.update_rules import UPDATE_RULES, UpdateRule, beta, lam, lr, m, mu, tau, w, wd  # noqa: E402

POINT = {lr: 0.25, mu: 0.9, tau: 1 / 3, beta: 0.9, wd: 0.8}  # lr * wd = 0.2, twice 1 - beta
over_rules = pytest.mark.parametrize("rule", UPDATE_RULES, ids=lambda rule: rule.name)


# --- by algebra, at step_size 1: signal h, and S the variance of h

b, d, p, h, S = sp.symbols("b d p h S", positive=True)


def edge(b, d, p, h):
    """The variance S that the page claims: with decoupled decay d and lookahead p."""
    u, v = (1 - b) * (1 + p), (1 - b) * p
    trace, determinant = 1 - d + b - h * u, b * (1 - d) - h * v
    jury = (1 - determinant) * (1 - trace + determinant) * (1 + trace + determinant)
    return jury / ((u * u + v * v) * (1 + determinant) - 2 * u * v * trace)


def step_matrix(b, d, p, h) -> list[list]:
    """On ``(w, m)``, with c2 = 1."""
    c1 = p * (1 - b) / b
    a = (1 - b) * (1 - c1)
    return [[1 - d - h * (c1 + a), -b], [a * h, b]]


def test_the_second_moments_have_an_eigenvalue_1_exactly_at_the_claimed_variance():
    A = sp.Matrix(step_matrix(b, d, p, h))
    determinant = (sp.eye(3) - on_second_moments(A) - S * on_second_moments(A.diff(h))).det()
    trace, det = A.trace(), A.det()
    # It is linear in S, and positive at S = 0, by Jury's conditions: the claimed S is where it first vanishes.
    without_noise = (1 - det) * (1 - trace + det) * (1 + trace + det)
    assert sp.simplify(determinant - without_noise * (1 - S / edge(b, d, p, h))) == 0
    point = {b: sp.Rational(9, 10), d: sp.Rational(1, 5), p: sp.Rational(1, 2), h: 1}
    claimed = edge(b, d, p, h).subs(point)
    assert determinant.subs(point).subs(S, claimed) == 0
    assert abs(determinant.subs(point).subs(S, sp.Rational(str(TOO_GOOD)) * claimed)) > 1e-3


def on_second_moments(A):
    """What ``x -> A x`` does to ``(E w^2, E w m, E m^2)``."""
    a, b, c, d = A
    return sp.Matrix([[a * a, 2 * a * b, b * b], [a * c, a * d + b * c, b * d], [c * c, 2 * c * d, d * d]])


def test_without_decay_it_is_the_load_of_the_page():
    q = (1 - b) / (1 + b) * (1 + 2 * p)  # signal_weight
    assert sp.simplify(edge(b, 0, p, h) / h - (1 + p * h) * (2 - q * h) / (1 + p * q * h)) == 0
    assert sp.simplify(edge(b, 0, 0, h) / h + q.subs(p, 0) * h - 2) == 0  # noise + signal_weight * signal = 2


def test_decoupled_decay_raises_the_edge_as_the_page_says():
    claimed = (d + h) * (1 - b * (1 - d)) * ((1 + b) * (2 - d) - h * (1 - b)) / ((1 - b) * (1 + b * (1 - d)))
    assert sp.simplify(edge(b, d, 0, h) - claimed) == 0


def test_in_the_units_of_each_optimizer_these_are_the_formulas_of_the_page():
    momentum, eta, curvature, variance = sp.symbols("mu eta lambda variance", positive=True)
    heavy_ball = load(eta / (1 - momentum), momentum, curvature, variance)
    assert sp.simplify(heavy_ball - eta * curvature / (1 + momentum) - eta * variance / curvature / (1 - momentum)) == 0
    adam = load(eta, momentum, curvature, variance)
    assert sp.simplify(adam - eta * curvature * (1 - momentum) / (1 + momentum) - eta * variance / curvature) == 0
    # Momentum at which the load of heavy ball is smallest: the deviation over the mean is (1 - mu) / (1 + mu).
    slope = sp.diff(heavy_ball, momentum).subs(variance, (curvature * (1 - momentum) / (1 + momentum)) ** 2)
    assert sp.simplify(slope) == 0


def load(step_size, momentum, curvature, variance):
    return step_size * variance / curvature + (1 - momentum) / (1 + momentum) * step_size * curvature


# --- torch's own optimizers

NUM_STEPS = 10
PATHS = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=NUM_STEPS)), dtype=torch.float64).T


@over_rules
def test_the_mean_square_over_all_paths_of_the_real_optimizer_is_what_the_second_moments_say(rule):
    mean, deviation = 0.6 * edges(rule, POINT)[1], 0.3 * edges(rule, POINT)[1]
    expected = by_second_moments(rule, mean, deviation)
    found = over_all_paths(rule, mean, deviation)
    assert found == pytest.approx(expected, rel=1e-9)  # rounding of ten steps, times what the largest path has grown
    assert found != pytest.approx(by_second_moments(rule, mean, deviation * TOO_GOOD**0.5), rel=1e-3)


def over_all_paths(rule: UpdateRule, mean: float, deviation: float) -> float:
    """E w^2 after ten steps, each at one of two curvatures by a coin: one weight for each of the 1024 paths."""
    frozen = frozen_at(rule, POINT, PATHS.shape[1])
    P, decay = preconditioner(rule, POINT, frozen), coupled_decay(rule, POINT)
    frozen.reset(torch.full_like(P, SMALL))
    for sign in PATHS:
        curvature = (mean + sign * deviation + decay) * P - decay
        frozen.step(curvature * frozen.parameter.detach())
    return (frozen.parameter.detach() / SMALL).square().mean().item()


def by_second_moments(rule: UpdateRule, mean: float, deviation: float) -> float:
    step = sp.lambdify(lam, sp.Matrix(rule.step).jacobian(sp.Matrix([w, m])).subs(POINT).tolist(), "math")
    each = [torch.tensor(step(mean + sign * deviation), dtype=torch.float64) for sign in (-1.0, 1.0)]
    kron = sum(torch.kron(matrix, matrix) for matrix in each) / 2.0
    start = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    return (torch.linalg.matrix_power(kron, NUM_STEPS) @ start)[0].item()


def dynamics_of(rule: UpdateRule) -> tuple[float, float, float, float]:
    """``(step_size, b, d, p)`` of a rule, by the table of the page."""
    eta, momentum, b1 = POINT[lr], POINT[mu], POINT[beta]
    decay = eta * POINT[wd]
    return {
        "sgd": (eta, 0.0, 0.0, 0.0),
        "sgd-l2": (eta, 0.0, 0.0, 0.0),
        "heavy-ball": (eta / (1 - momentum), momentum, 0.0, 0.0),
        "heavy-ball-dampening-l2": (eta * (1 - POINT[tau]) / (1 - momentum), momentum, 0.0, 0.0),
        "nesterov-l2": (eta / (1 - momentum), momentum, 0.0, momentum),
        "adam-l2": (eta, b1, 0.0, 0.0),
        "adamw": (eta, b1, decay, 0.0),
        "nadamw-late": (eta, b1, decay, b1),
        "rmsprop-l2": (eta, 0.0, 0.0, 0.0),
        "rmsprop-momentum-l2": (eta / (1 - momentum), momentum, 0.0, 0.0),
    }[rule.name]


@over_rules
@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.95])
def test_the_real_optimizer_has_its_mean_square_edge_within_2_percent_of_the_claimed_variance(rule, fraction):
    assert is_the_mean_square_edge(rule, fraction, 1.0)
    assert not is_the_mean_square_edge(rule, fraction, TOO_GOOD)
    assert not is_the_mean_square_edge(rule, fraction, 1.0 / TOO_GOOD)


def is_the_mean_square_edge(rule: UpdateRule, fraction: float, factor: float) -> bool:
    """Whether the mean square contracts at 0.98 of the claimed variance times the factor, and grows at 1.02."""
    step_size, momentum, decay, lookahead = dynamics_of(rule)
    l2 = coupled_decay(rule, POINT)
    A = fraction * (edges(rule, POINT)[1] + l2)  # of the loss and of coupled decay
    variance = factor * edge(momentum, decay, lookahead, step_size * A) / step_size**2
    frozen = frozen_at(rule, POINT, 1)
    P = preconditioner(rule, POINT, frozen).item()

    def growth(share: float) -> float:
        deviation = (share * variance) ** 0.5
        return mean_square_growth(frozen, [(A + sign * deviation) * P - l2 for sign in (-1.0, 1.0)])

    return growth(0.98) < 1.0 < growth(1.02)


@over_rules
@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.95])
def test_the_load_number_is_2_at_the_claimed_variance(rule, fraction):
    step_size, momentum, _, lookahead = dynamics_of(rule)
    signal = fraction * 2.0 / ((1 - momentum) / (1 + momentum) * (1 + 2 * lookahead))
    noise = edge(momentum, 0.0, lookahead, signal) / signal
    dynamics = StepDynamics(step_size=step_size, momentum=momentum, lookahead=lookahead)
    assert load_number(signal, noise, dynamics) == pytest.approx(2.0, rel=1e-12)
    assert load_number(signal, TOO_GOOD * noise, dynamics) > 2.0 + 1e-3


# --- a search


@st.composite
def recursions(draw) -> tuple[float, float, float, float]:
    """``(b, d, p, h)``: lookahead up to b / (1 - b), which is the newest gradient alone, and a stable h."""
    b = draw(st.floats(0.001, 0.99))
    d = draw(st.floats(0.0, 1.9))
    p = draw(st.floats(0.0, 1.0)) * b / (1.0 - b)
    limit = (2.0 - d) / ((1.0 - b) / (1.0 + b) * (1.0 + 2.0 * p))
    return b, d, p, draw(st.floats(0.01, 0.99)) * limit


def is_edge_of(recursion: tuple[float, float, float, float], factor: float) -> bool:
    """Whether the mean square contracts a little below the claimed variance times the factor, and grows above."""
    b, d, p, h = recursion

    def growth(variance: float) -> float:
        each = [matrix_of(b, d, p, h + sign * variance**0.5) for sign in (-1.0, 1.0)]
        return torch.linalg.eigvals(sum(torch.kron(A, A) for A in each) / 2.0).abs().max().item()

    claimed = factor * edge(b, d, p, h)
    return growth(0.98 * claimed) < 1.0 < growth(1.02 * claimed)


def matrix_of(b: float, d: float, p: float, h: float) -> Tensor:
    return torch.tensor(step_matrix(b, d, p, h), dtype=torch.float64)


@given(recursion=recursions())
@search_settings(max_examples=300)
def test_no_recursion_is_found_whose_mean_square_edge_is_elsewhere(recursion):
    assert is_edge_of(recursion, 1.0)


def test_the_same_search_finds_one_for_an_edge_5_percent_too_good():
    found = find(recursions(), lambda recursion: not is_edge_of(recursion, TOO_GOOD))
    assert is_edge_of(found, 1.0)
