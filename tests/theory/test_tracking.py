"""docs/theory/convergence.md, theorem 7: how far lr lags behind curvature that drifts, with a probe every T steps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcao.policies import Ceiling, Hyperparameters, LearningRate, Observation
from helpers.theorems import TOO_GOOD
from helpers.theory_runs import course

TARGET = 1.5


def drifting_run(rate: float, interval: int, steps: int, lr: float = 0.5, target: float = TARGET):
    """The real DCAO with the proposal's rule on a quadratic whose curvature is ``exp(rate * step)``; s at each step."""
    now = {"step": -1}

    def loss(w: torch.Tensor) -> torch.Tensor:
        return 0.5 * math.exp(rate * now["step"]) * (w * w).sum()

    def count() -> torch.Tensor:
        now["step"] += 1
        return torch.ones(1, dtype=torch.float64)  # a pull that keeps the weight from its minimum

    policy = LearningRate(target, settle=False)
    run = course(loss, torch.ones(1), steps=steps, policy=policy, every=interval, lr=lr, noise=count)
    return run.lrs * torch.exp(rate * torch.arange(steps, dtype=torch.float64))


@pytest.mark.parametrize(("rate", "interval"), [(0.01, 10), (0.02, 5), (0.004, 20), (0.009, 10)])
def test_s_is_above_the_target_by_the_drift_between_probes_and_no_more(rate, interval):
    s = drifting_run(rate, interval, 40 * interval)[10 * interval :]
    claimed = TARGET * math.exp(rate * (interval - 1))
    assert s.max() == pytest.approx(claimed, rel=1e-5)  # the curvature is measured by a difference, to 1e-7
    assert s.max() > TARGET * math.exp(rate / TOO_GOOD * (interval - 1))
    assert s.min() >= TARGET * (1.0 - 1e-5)


def test_a_drift_beyond_the_clip_is_never_caught_up():
    interval = 10
    fastest = -math.log(0.8) / interval
    for rate, is_followed in ((fastest / TOO_GOOD, True), (fastest * TOO_GOOD, False)):
        s = drifting_run(rate, interval, 60 * interval, lr=0.5, target=0.5)  # far below 2, where the run stays stable
        lag = math.log(float(s[-interval:].max()) / 0.5)
        if is_followed:
            assert lag == pytest.approx(rate * (interval - 1), abs=1e-5)
        else:  # each interval adds what the clip does not take
            assert lag == pytest.approx(59 * (rate * interval + math.log(0.8)) + rate * (interval - 1), abs=1e-5)


# --- the rule itself, against any drift and any error of the estimate


@settings(max_examples=200)
@given(
    start=st.floats(1e-3, 1e3),
    margin=st.floats(0.1, 0.9),
    error=st.floats(0.0, 0.3),
    moves=st.lists(st.tuples(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0)), min_size=150, max_size=150),
)
def test_no_drift_and_no_error_in_bounds_keep_it_from_the_target(start, margin, error, moves):
    rule = LearningRate(TARGET, min_lr=0.0, max_lr=1e9, settle=False)
    now, state = Hyperparameters(lr=start), rule.init(Hyperparameters(lr=start))
    log_curvature, least = 0.0, min(-math.log(0.8), math.log(1.1))
    drift = margin * least
    entered = None
    for probe, (move, noise) in enumerate(moves):
        log_curvature += drift * move if probe else 0.0
        s = now.lr * math.exp(log_curvature + error * noise)
        decision, state = rule.propose(Observation(step=probe, s=s, trust=1.0, hyperparameters=now), state)
        now = decision.hyperparameters
        off = math.log(now.lr / TARGET) + log_curvature
        if entered is None and abs(off) <= error + 1e-12:
            entered = probe
        elif entered is not None:
            assert abs(off) <= error + 1e-12
    first_off = abs(math.log(start / TARGET))
    allowed = math.ceil(max(first_off - error, 0.0) / (least - drift))
    if allowed < len(moves):
        assert entered is not None
        assert entered <= allowed


def test_an_error_of_the_estimate_passes_through_in_full():
    rule = LearningRate(TARGET, settle=False)
    now = Hyperparameters(lr=TARGET)
    seen = Observation(step=0, s=TARGET * 0.95, trust=1.0, hyperparameters=now)  # 5 % too low
    after = rule.propose(seen, rule.init(now))[0].hyperparameters.lr
    assert after == pytest.approx(TARGET / 0.95, rel=1e-12)


# --- what it costs


def worth(interval: float, rate: float, cost: float) -> float:
    """Guaranteed progress per gradient evaluation, where s is 2c at most: (T / (T + q)) exp(-2 r (T - 1))."""
    return interval / (interval + cost) * math.exp(-2.0 * rate * (interval - 1.0))


@pytest.mark.parametrize(("rate", "cost"), [(0.05, 1.0), (0.01, 1.0), (0.001, 1.0), (0.01, 20.0)])
def test_the_best_interval_is_that_of_the_page(rate, cost):
    claimed = (math.sqrt(cost**2 + 2.0 * cost / rate) - cost) / 2.0
    best = max((n / 1000.0 for n in range(1, 200_000)), key=lambda interval: worth(interval, rate, cost))
    assert claimed == pytest.approx(best, abs=1e-2)
    assert TOO_GOOD * claimed != pytest.approx(best, abs=0.01)


# --- the default: s is under its limit at the probes, and the rise overshoots by what it grows between two


@settings(max_examples=200)
@given(
    curvature=st.floats(1e-3, 1e3),
    length=st.floats(1e-3, 1e3),
    interval=st.integers(1, 20),
    start=st.floats(1e-6, 1e-2),
)
def test_where_the_weights_stay_the_default_overshoots_its_ceiling_by_its_growth_alone(
    curvature, length, interval, start
):
    rule = Ceiling(first_relative_step=None)
    ceiling = min(8.0 / curvature, rule.largest_relative_step(0.0) / length)
    now = Hyperparameters(lr=start * ceiling)
    state = rule.init(now)
    lrs = []
    for step in range(600):
        if step % interval == 0:
            # A probe sees the lr of the step before; the rule raises it itself.
            seen = Observation(
                step=step,
                s=now.lr * curvature,
                trust=1.0,
                hyperparameters=now,
                relative_step=now.lr * length,
                agreement=1.0,
            )
            decision, state = rule.propose(seen, state)
            now = decision.hyperparameters
        now = replace(now, lr=rule.between(step, now, state).lr)
        lrs.append(now.lr / ceiling)
    # After a probe that is 1 at most; then lr grows between probes, for 10 steps at most.
    assert max(lrs) <= 1.1 ** min(interval - 1, 10) * (1.0 + 1e-9)
    assert lrs[-1] == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize(("rate", "interval"), [(0.01, 20), (0.005, 30), (0.03, 5)])
def test_in_a_steady_drift_the_default_lags_by_less_than_two_intervals(rate, interval):
    rule = Ceiling(first_relative_step=None)
    now = Hyperparameters(lr=1.0)
    state, seen_s = rule.init(now), []
    for step in range(40 * interval):
        curvature = math.exp(rate * step)
        if step % interval == 0:
            seen = Observation(step=step, s=now.lr * curvature, trust=1.0, hyperparameters=now, agreement=1.0)
            decision, state = rule.propose(seen, state)
            now = decision.hyperparameters
        now = replace(now, lr=rule.between(step, now, state).lr)
        seen_s.append(now.lr * curvature)
    claimed = 8.0 * math.exp(rate * (2 * interval - 1))
    assert max(seen_s[-10 * interval :]) == pytest.approx(claimed, rel=1e-9)
    assert max(seen_s[-10 * interval :]) > 8.0 * math.exp(rate / TOO_GOOD * (2 * interval - 1))
