"""docs/theory/stability-thresholds.md by computer algebra: the polynomials, Jury's conditions, and the edges."""

from __future__ import annotations

import cmath

import pytest

sp = pytest.importorskip("sympy", reason="dcao[theory] is not installed")

from dcao.updates.dynamics import StepDynamics  # noqa: E402
from helpers.theorems import TOO_GOOD  # noqa: E402
from helpers.update_rules import UPDATE_RULES, beta, lam, lr, mu, tau, trace_and_determinant, wd  # noqa: E402

over_rules = pytest.mark.parametrize("rule", UPDATE_RULES, ids=lambda rule: rule.name)

# Decay takes a quarter of what there is to take from AdamW (lr * wd = 1 / 2), so that leaving it out would show.
POINT = {lr: sp.Rational(1, 4), mu: sp.Rational(9, 10), tau: sp.Rational(1, 3), beta: sp.Rational(9, 10), wd: 2}


@over_rules
def test_the_claimed_edge_is_where_a_root_of_the_polynomial_reaches_minus_one(rule):
    trace, determinant = trace_and_determinant(rule)
    assert sp.simplify((1 + trace + determinant).subs(lam, rule.upper)) == 0
    assert sp.simplify((1 + trace + determinant).subs(lam, TOO_GOOD * rule.upper)) != 0


@over_rules
def test_below_that_edge_lies_the_one_where_a_root_reaches_plus_one(rule):
    trace, determinant = trace_and_determinant(rule)
    assert sp.simplify((1 - trace + determinant).subs(lam, rule.lower)) == 0
    if rule.lower != 0:
        assert sp.simplify((1 - trace + determinant).subs(lam, TOO_GOOD * rule.lower)) != 0


@over_rules
@pytest.mark.parametrize("momentum", [sp.Rational(1, 10), sp.Rational(1, 2), sp.Rational(99, 100)])
def test_both_roots_are_inside_the_circle_between_the_edges_and_not_beyond(rule, momentum):
    values = {**POINT, mu: momentum, beta: momentum}
    lower, upper = (sp.nsimplify(edge.subs(values)) for edge in (rule.lower, rule.upper))
    assert all(is_stable(rule, values, lower + (upper - lower) * share) for share in map(sp.Rational, INSIDE))
    assert not is_stable(rule, values, sp.Rational(str(TOO_GOOD)) * upper)
    assert not is_stable(rule, values, lower - (upper - lower) / 1000)


INSIDE = ("1/1000", "1/10", "1/2", "9/10", "999/1000")


def is_stable(rule, values, curvature) -> bool:
    """By the roots themselves, in floating point: they are 1e-5 or more from the circle, rounding is 1e-15."""
    trace, determinant = (float(each.subs(values).subs(lam, curvature)) for each in trace_and_determinant(rule))
    root = cmath.sqrt(trace * trace / 4.0 - determinant)
    return max(abs(trace / 2.0 + root), abs(trace / 2.0 - root)) < 1.0


# --- the recursion that all of them are

a, b, c1, c2, d, h = sp.symbols("a b c1 c2 d h", real=True)  # h = lr * lambda
u, v = c1 + c2 * a, b * c1


def recursion():
    """Trace and determinant of the two lines at the top of the page, on ``(w, lr * m)``."""
    weight, state = sp.symbols("w m", real=True)
    new_state = b * state + a * h * weight
    new_weight = (1 - d) * weight - c1 * h * weight - c2 * new_state
    matrix = sp.Matrix([new_weight, new_state]).jacobian(sp.Matrix([weight, state]))
    return sp.expand(matrix.trace()), sp.expand(matrix.det())


def test_the_two_lines_have_the_trace_and_determinant_of_the_page():
    trace, determinant = recursion()
    assert sp.expand(trace - (1 - d + b - h * u)) == 0
    assert sp.expand(determinant - (b * (1 - d) - h * v)) == 0


def test_jurys_conditions_are_those_of_the_page():
    trace, determinant = recursion()
    assert sp.expand(1 - trace + determinant - (d * (1 - b) + h * (u - v))) == 0
    assert sp.expand(1 + trace + determinant - ((1 + b) * (2 - d) - h * (u + v))) == 0


def test_at_both_edges_the_determinant_is_at_most_b_in_size():
    # It is affine in h, so it then is everywhere between them. With p = v / (u - v), the lookahead, u - v = 1 and
    # v = p; q = p (1 - b) / b is between 0 and 1.
    p, q = sp.symbols("p q", nonnegative=True)
    _, determinant = recursion()
    as_lookahead = {c1: p / b, a: 1 + p - p / b, c2: 1}
    at_lower = determinant.subs(h, -d * (1 - b) / (u - v)).subs(as_lookahead)
    at_upper = determinant.subs(h, (1 + b) * (2 - d) / (u + v)).subs(as_lookahead)
    assert sp.simplify(at_lower.subs(p, q * b / (1 - b)) - b * (1 - d * (1 - q))) == 0  # from -b to b for d in [0, 2]
    assert sp.simplify(sp.diff(at_upper, p) + (1 + b) * (2 - d) / (1 + 2 * p) ** 2) == 0  # it falls with p,
    assert sp.simplify(at_upper.subs(p, 0) - b * (1 - d)) == 0  # from at most b
    assert sp.simplify(at_upper.subs(p, b / (1 - b)) + b) == 0  # to -b


# --- the library's numbers


def test_step_size_and_signal_weight_give_the_upper_edge():
    step_size, lookahead = (u - v) / (1 - b), v / (u - v)  # at lr 1
    signal_weight = (1 - b) / (1 + b) * (1 + 2 * lookahead)
    assert sp.simplify((2 - d) / (step_size * signal_weight) - (1 + b) * (2 - d) / (u + v)) == 0
    # What the library computes is this formula: momentum 9/10, lookahead 2/10, decay 1/2.
    dynamics = StepDynamics(step_size=0.25, momentum=0.9, lookahead=0.2, decoupled_decay=0.5)
    assert dynamics.curvature_limit == pytest.approx((2 - 0.5) / (0.25 * (0.1 / 1.9) * 1.4), rel=1e-14)
