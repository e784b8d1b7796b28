"""A search for hyperparameters and curvatures at which torch's optimizers do not do what the edges say."""

from __future__ import annotations

import pytest
from hypothesis import assume, find, given, settings
from hypothesis import strategies as st

pytest.importorskip("sympy", reason="dcao[theory] is not installed")

from helpers.frozen_optimizer import mean_square_growth
from helpers.rule_runs import coupled_decay, edges, frozen_at, preconditioner
from helpers.theorems import TOO_GOOD
from helpers.update_rules import UPDATE_RULES, UpdateRule, beta, lr, mu, tau, wd

over_rules = pytest.mark.parametrize("rule", UPDATE_RULES, ids=lambda rule: rule.name)

# Rounding moves a root by about the square root of 1e-16 where both meet; at this distance from an edge a root is
# 1e-3 * (1 - momentum) >= 1e-5 off the circle.
MARGIN = 1e-3


@st.composite
def settings_of_a_run(draw) -> tuple[dict, float]:
    """Hyperparameters, and a curvature as a fraction of the interval of stable ones."""
    values = {
        lr: 10.0 ** draw(st.floats(-3.0, 1.0)),
        mu: draw(st.floats(0.001, 0.99)),  # torch takes no Nesterov without momentum
        beta: draw(st.floats(0.0, 0.99)),
        tau: draw(st.floats(0.0, 0.9)),
    }
    values[wd] = draw(st.floats(0.01, 1.8)) / values[lr]
    fraction = draw(st.one_of(st.floats(-0.5, 1.5), st.floats(0.9, 1.1)))
    return values, fraction


def is_off_the_edges(fraction: float) -> bool:
    return min(abs(fraction), abs(1.0 - fraction)) > MARGIN


def agrees(rule: UpdateRule, values: dict, fraction: float, factor: float = 1.0) -> bool:
    """Whether the claim (with its upper edge times the factor) says what one real step, as a matrix, does."""
    frozen = frozen_at(rule, values, 1)
    lower, upper = edges(rule, values)
    curvature = lower + fraction * (upper - lower)
    claimed = lower < curvature < factor * upper
    decay = coupled_decay(rule, values)
    loss_curvature = (curvature + decay) * preconditioner(rule, values, frozen).item() - decay
    return claimed == (mean_square_growth(frozen, [loss_curvature]) < 1.0)


@over_rules
@given(run=settings_of_a_run())
@settings(max_examples=60)
def test_no_hyperparameters_are_found_at_which_the_edges_are_wrong(rule, run):
    values, fraction = run
    assume(is_off_the_edges(fraction))
    assert agrees(rule, values, fraction)


@over_rules
def test_the_same_search_finds_some_for_an_edge_5_percent_too_good(rule):
    def is_counterexample(run) -> bool:
        values, fraction = run
        return is_off_the_edges(fraction) and not agrees(rule, values, fraction, factor=TOO_GOOD)

    _values, fraction = find(settings_of_a_run(), is_counterexample, settings=settings(max_examples=2000))
    assert fraction > 1.0
