"""How noisy a run is, by hand: which steps say so, how long lr decays, how fast it rises; when the loss is watched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcao import policies
from dcao.policies import Hyperparameters, Observation
from dcao.policies.base import LrShape
from dcao.policies.noise import MOST_AGREEMENTS, noise, share_of_decay, with_agreement


def seen(step: int, agreement: float | None, lr: float = 1.0, **fields) -> Observation:
    here = Hyperparameters(lr=lr, momentum=0.9, **fields)
    return Observation(
        step=step, s=1e-3 * lr, trust=1.0, hyperparameters=here, relative_step=lr / 8, agreement=agreement
    )


@pytest.mark.parametrize(
    ("agreements", "share"),
    [
        ([], 0.3),
        ([1.0], 0.3),
        ([0.25], 0.3),
        ([0.23], 0.4),  # a fifth of the way from 0.25 to 0.15, and from 0.3 to 0.8
        ([0.2], 0.55),
        ([0.15], 0.8),
        ([0.0], 0.8),
        ([0.0, 0.2, 0.9], 0.55),  # the median
        ([0.15, 0.25], 0.55),
    ],
)
def test_the_share_by_hand(agreements, share):
    assert share_of_decay(agreements) == pytest.approx(share, abs=1e-12)
    assert noise(agreements) == pytest.approx((share - 0.3) / 0.5, abs=1e-12)


NOTHING = {"agreements": [], "first_agreements": []}


def counted(total_steps: int | None) -> list[int]:
    """The steps whose agreement says how noisy a run is."""
    return [step for step in range(200) if with_agreement(NOTHING, seen(step, 0.5), total_steps)["agreements"]]


def test_the_steps_from_5_to_20_percent_of_the_run_count():
    assert counted(200) == list(range(10, 40))


def test_until_then_those_before_stand_in():
    state = NOTHING
    for step in (0, 5, 9):
        state = with_agreement(state, seen(step, 0.5), 200)
    assert state == {"agreements": [], "first_agreements": [0.5] * 3}
    state = with_agreement(state, seen(10, 0.3), 200)
    assert state["agreements"] == [0.3]
    assert with_agreement(state, seen(40, 0.1), 200) == state


def test_where_the_length_is_not_known_the_steps_from_20_to_100_count():
    assert counted(None) == list(range(20, 100))


def test_where_the_agreement_is_not_known_nothing_counts():
    known = {"agreements": [0.5], "first_agreements": [0.2]}
    assert with_agreement(known, seen(20, None), 200) == with_agreement(known, seen(5, None), 200) == known


def test_of_a_long_run_the_last_ones_are_kept():
    state = NOTHING
    for step in range(100_000, 100_000 + 2 * MOST_AGREEMENTS):
        state = with_agreement(state, seen(step, float(step)), 10**6)
    assert state["agreements"] == [float(100_000 + MOST_AGREEMENTS + each) for each in range(MOST_AGREEMENTS)]


def course(agreement: float | None, *, decay: float | None = None) -> list[float]:
    """The lr of each of 200 steps, with a probe at every fifth."""
    rule, lr, trained = policies.Ceiling(total_steps=200, decay=decay), 1.0, []
    state = rule.init(Hyperparameters(lr=lr))
    for step in range(200):
        if step % 5 == 0:
            decision, state = rule.propose(seen(step, agreement, lr), state)
            lr = decision.hyperparameters.lr
        else:
            lr = rule.between(step, Hyperparameters(lr=lr, momentum=0.9), state).lr
        trained.append(lr)
    return trained


@pytest.mark.parametrize(
    ("agreement", "share"),
    [(0.9, 0.3), (None, 0.3), (0.2, 0.55), (0.05, 0.8)],
    ids=["agree", "unknown", "some", "noise"],
)
def test_a_whole_run_by_hand(agreement, share):
    # l is lr / 8: it starts at 0.01 * 8, and the limit of 0.1 is reached at 0.1 * 8.
    expected = [min(0.08 * 1.1**step, 0.8) * min(1.0, (200 - step) / (share * 200)) for step in range(200)]
    assert course(agreement) == pytest.approx(expected, rel=1e-9)


def test_a_share_that_is_given_is_taken():
    assert course(0.05, decay=0.3) == course(0.9)
    # Where gradients agree, lr also rises back to the ceiling, which it is at already: but for the last bits.
    assert course(0.9, decay=0.8) == pytest.approx(course(0.05), rel=1e-12)


def test_under_a_scheduler_that_falls_there_is_none():
    rule = policies.Ceiling(total_steps=200)
    falling = LrShape(share=0.5, decays=True)
    state = {**rule.init(Hyperparameters(lr=1.0)), "step": 150, "arrived": True, "ceiling": 1.0, "agreements": [0.0]}
    assert rule.between(151, Hyperparameters(lr=1.0, shape=falling), state).lr == 1.0
    assert rule.between(151, Hyperparameters(lr=50 / 160), state).lr == pytest.approx(49 / 160)


@pytest.mark.parametrize(("agreement", "most"), [(0.9, 2.0), (0.2, 1.5), (0.05, 1.0)], ids=["agree", "some", "noise"])
def test_the_noisier_the_gradients_the_slower_lr_rises_towards_the_ceiling(agreement, most):
    # From step 100 to 200 by (1 + (1 - noise) / t) a step: as much as t, its root, and not at all.
    rule = policies.Ceiling()
    here = {"step": 100, "arrived": True, "ceiling": 100.0, "agreements": [agreement]}
    lr, state = 1.0, {**rule.init(Hyperparameters(lr=1.0)), **here}
    for step in range(101, 201):
        lr = rule.between(step, Hyperparameters(lr=lr), state).lr
    # The product of 1 + x / t from 101 to 200, x = 1: 201 / 101; x = 1/2: the root of that, within its square terms,
    # the sum of x (1 - x) / 2 / t^2 < 1/8 * 0.005.
    assert lr == pytest.approx(
        most * 201 / 202 if most == 2.0 else (201 / 101) ** 0.5 if most == 1.5 else 1.0, rel=1e-3
    )


@pytest.mark.parametrize(("settings", "last"), [({"total_steps": 200}, 49), ({}, 99)], ids=["a quarter", "100 steps"])
def test_the_loss_is_watched_in_the_first_part_of_the_run(settings, last):
    rule = policies.Ceiling(**settings)
    before = rule.init(Hyperparameters(lr=1.0))
    assert rule.turns_back_at(0, 1.0, before) is None  # no lr of its own has trained
    _, state = rule.propose(seen(0, None), before)
    assert [step for step in range(300) if rule.turns_back_at(step, 1.0, state)] == list(range(last + 1))
    assert rule.turns_back_at(1, 1.0, rule.turned_back(0.1, state)) is None
    for without in ({"first_relative_step": None}, {"watched": 0.0}):
        other = policies.Ceiling(**without, **settings)
        _, state = other.propose(seen(0, None), other.init(Hyperparameters(lr=1.0)))
        assert other.turns_back_at(1, 1.0, state) is None


def test_a_smaller_rise_of_the_loss_is_enough_where_steps_cost_too_much():
    # s per unit of lr is 1e-3 in all probes, so that with an agreement of 0.25 the cost over the gain comes to 10 at an
    # lr of 2500; with 0.01, which counts as 0.02, at 200. (The first probe is rounded, by 3.2 % at most.) Where nothing
    # is known of the agreement the loss is alone.
    for agreement, lr in ((0.25, 2500.0), (0.01, 200.0)):
        rule = policies.Ceiling(total_steps=200)
        _, state = rule.propose(seen(0, agreement), rule.init(Hyperparameters(lr=1.0)))
        assert [rule.turns_back_at(1, factor * lr, state) for factor in (0.96, 1.04)] == [5.0, 2.5]
    _, unknown = rule.propose(seen(0, None), rule.init(Hyperparameters(lr=1.0)))
    assert rule.turns_back_at(1, 1e9, unknown) == 5.0


def test_the_median_of_the_last_three_probes_says_what_steps_cost():
    rule = policies.Ceiling(total_steps=200)
    state = rule.init(Hyperparameters(lr=1.0))
    for step, agreement in enumerate((0.1, 0.5, 0.02, 0.25)):
        _, state = rule.propose(seen(step, agreement), state)
    assert state["costs"] == pytest.approx([1e-3 / 0.5, 1e-3 / 0.02, 1e-3 / 0.25])
    assert [rule.turns_back_at(4, lr, state) for lr in (2499.0, 2501.0)] == [5.0, 2.5]


def test_once_the_loss_has_turned_lr_stays_under_half_of_what_it_was():
    rule = policies.Ceiling()
    lr, state = 1.0, rule.init(Hyperparameters(lr=1.0))
    for step in range(300):
        if step == 20:
            turned_at = lr
            state = rule.turned_back(turned_at, state)
        if step % 5 == 0:
            decision, state = rule.propose(seen(step, None, lr), state)
            lr = decision.hyperparameters.lr
        else:
            lr = rule.between(step, Hyperparameters(lr=lr, momentum=0.9), state).lr
        assert step < 20 or lr <= 0.5 * turned_at * (1.0 + 1e-12)
    assert lr == pytest.approx(0.5 * turned_at)  # nothing else has cut it


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rule: policies.Compose(policies.WeightDecay(0.2), rule),
        lambda rule: policies.Smoothed(rule),
        lambda rule: policies.Compose(policies.Smoothed(rule)),
    ],
    ids=["compose", "smoothed", "both"],
)
def test_policies_made_of_policies_hand_it_on(wrap):
    rule, here = wrap(policies.Ceiling()), Hyperparameters(lr=1.0, momentum=0.9, weight_decay=0.1)
    _, state = rule.propose(seen(0, None, weight_decay=0.1), rule.init(here))
    assert rule.turns_back_at(1, 1.0, state) == 5.0
    assert policies.Compose(policies.LearningRate()).turns_back_at(1, 1.0, {"parts": [{}]}) is None
    state = rule.turned_back(0.5, state)
    assert rule.turns_back_at(1, 1.0, state) is None
    assert rule.between(1, here, state).lr == 0.25


# --- how large s may be


def after_two_probes(agreement: float | None, curvature: float) -> tuple[policies.Decision, policies.State]:
    """The last decision and the state after a probe at lr 1 and one five steps later, of this s per unit of lr."""
    rule, lr = policies.Ceiling(first_relative_step=None), 1.0
    state = rule.init(Hyperparameters(lr=lr))
    for step in range(6):
        lr = rule.between(step, Hyperparameters(lr=lr, momentum=0.9), state).lr
        if step in (0, 5):
            probe = replace(seen(step, agreement if step else None, lr), s=curvature * lr, relative_step=1e-3 * lr)
            decision, state = rule.propose(probe, state)
            lr = decision.hyperparameters.lr
    return decision, state


@pytest.mark.parametrize(("agreement", "largest"), [(0.5, 8.0), (0.1, 8.0), (0.075, 20.0), (0.05, 32.0), (0.01, 32.0)])
def test_s_may_be_up_to_four_times_as_large_where_gradients_share_nothing(agreement, largest):
    decision, state = after_two_probes(agreement, curvature=7.0)
    assert state["ceiling"] == pytest.approx(largest / 7.0)
    reason = f"; gradients share next to nothing, s up to {largest:.3g}"
    assert decision.reason.endswith(reason) == (largest > 8.0)


@pytest.mark.parametrize(
    ("agreement", "rises"), [(None, False), (0.5, False), (0.12, False), (0.09, True), (0.01, True)]
)
def test_a_first_probe_that_objects_ends_the_rise_unless_the_next_finds_that_nothing_is_shared(agreement, rises):
    decision, state = after_two_probes(agreement, curvature=16.0)
    assert decision.hyperparameters.lr == pytest.approx(
        0.5
    )  # where s is 8: no step has been taken that speaks for a larger one
    assert state["arrived"] != rises
