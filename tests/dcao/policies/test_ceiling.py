"""The default rule, number by number, and in closed loop on a quadratic and on a network from nine decades of lr."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn, optim

from dcao import DCAO, MemoryRecorder, ProbeSettings, policies
from dcao.policies import Hyperparameters, Observation
from dcao.policies.ceiling import STEPS_AHEAD

HERE = Hyperparameters(lr=0.5, momentum=0.9, weight_decay=0.01)


def at(step: int, lr: float, s: float | None, relative_step: float | None = None, trust: float = 1.0) -> Observation:
    here = Hyperparameters(lr=lr, momentum=0.9, weight_decay=0.01)
    return Observation(step=step, s=s, trust=trust, hyperparameters=here, relative_step=relative_step)


def started(rule, lr: float = 1.0, s: float = 1.0, relative_step: float = 0.01):
    """State and lr after a first probe at step 0."""
    decision, state = rule.propose(at(0, lr, s, relative_step), rule.init(HERE))
    return decision.hyperparameters.lr, state


@pytest.mark.parametrize("lr", [10.0**exponent for exponent in range(-7, 2)])
def test_the_first_step_has_the_same_length_whatever_lr_is_given(lr):
    # s and the relative step are proportional to lr: curvature 5, length 0.2 per unit of lr, of which 13 / 64 is kept
    first, state = started(policies.Ceiling(first_relative_step=1e-3), lr, 5.0 * lr, 0.2 * lr)
    assert first == 1e-3 / (13 / 64)
    assert (state["curvatures"], state["lengths"]) == ([5.0], [13 / 64])


def test_without_a_relative_step_it_starts_from_the_lr_that_is_given():
    decision, state = (rule := policies.Ceiling()).propose(at(0, 0.5, 1.0), rule.init(HERE))
    assert decision.hyperparameters == HERE
    assert rule.between(1, HERE, state).lr == pytest.approx(0.5 * 1.1)


def test_told_so_it_starts_from_the_lr_that_is_given():
    assert started(policies.Ceiling(first_relative_step=None), 0.5)[0] == 0.5


def test_lr_rises_by_its_growth_a_step_for_ten_steps_without_a_probe_and_then_waits():
    rule = policies.Ceiling(target=1e9, max_relative_step=1e9, growth=1.2)
    first, state = started(rule)
    lr = first
    for step in range(1, STEPS_AHEAD + 6):
        lr = rule.between(step, Hyperparameters(lr=lr), state).lr
        assert lr == pytest.approx(first * 1.2 ** min(step, STEPS_AHEAD))


# What one probe at step 5 makes of lr 1 on the way up, worked by hand: risen once to 1.1; allowed is
# min(8 / s, 0.1 / l) times the lr of the probe, and at least half of 1.1 is kept.
ENDS_OF_A_RISE = [
    ("nothing objects", 1.0, 0.01, 1.1, "rise"),
    ("curvature objects", 10.0, 0.01, 0.8, "arrived"),
    ("the relative step objects", 1.0, 0.16, 0.625, "arrived"),
    ("both object, far above", 100.0, 0.5, 0.55, "arrived"),
    ("the loss is not finite one step away", math.inf, 0.01, 0.55, "arrived"),
    ("negative curvature sets no limit", -50.0, 0.01, 1.1, "rise"),
]


@pytest.mark.parametrize(("name", "s", "length", "lr", "phase"), ENDS_OF_A_RISE, ids=[row[0] for row in ENDS_OF_A_RISE])
def test_one_probe_ends_the_rise(name, s, length, lr, phase):
    rule = policies.Ceiling()
    _, state = started(rule)
    decision, _ = rule.propose(at(5, 1.0, s, length), {**state, "curvatures": [], "lengths": []})
    assert decision.hyperparameters.lr == pytest.approx(lr, rel=1e-12)
    assert decision.reason.startswith(f"{phase}: lr 1 -> {lr:.3g}; this probe allows ")


@pytest.mark.parametrize(
    ("momentum", "longest"), [(None, 0.0479), (0.0, 0.0479), (0.5, 0.0630), (0.9, 0.1), (0.99, 0.1)]
)
def test_with_less_momentum_the_displacement_has_to_be_shorter(momentum, longest):
    # 0.1 * ((1 + b) / (1 - b) / 19) ** (1 / 4) by hand: (1 / 19) ** 0.25 = 0.479, (3 / 19) ** 0.25 = 0.630
    rule, here = policies.Ceiling(), Hyperparameters(lr=1.0, momentum=momentum)
    seen = Observation(step=0, s=1e-9, trust=1.0, hyperparameters=here, relative_step=1.0)
    _, state = rule.propose(seen, rule.init(here))
    assert state["ceiling"] == pytest.approx(longest, abs=5e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_what_one_update_is_of_the_displacement_by_torch_itself(momentum):
    # The lower limit without momentum comes from this ratio. 300 updates of 2000 independent entries, of which those
    # within 1 / (1 - b) steps are not: the relative error of the root mean square is about
    # sqrt(1 / (2 * 300 * 2000) * 19) = 0.4 % at most.
    generator = torch.Generator().manual_seed(0)
    w, updates = nn.Parameter(torch.zeros(2000)), []
    optimizer = optim.SGD([w], lr=0.3, momentum=momentum)
    for _ in range(400):
        w.grad, before = torch.randn(2000, generator=generator), w.detach().clone()
        optimizer.step()
        updates.append(w.detach() - before)
    update = torch.stack(updates[100:]).square().mean().sqrt().item()  # the buffer is full after 100
    displacement = 0.3 / (1.0 - momentum)  # of a gradient whose entries have variance 1
    assert update / displacement == pytest.approx(math.sqrt((1.0 - momentum) / (1.0 + momentum)), rel=0.02)


def arrived(rule, lr: float = 1.0, step: int = 10, s: float = 8.0, length: float = 0.01):
    """State of a run whose last three probes saw s at lr."""
    window = {"curvatures": [s / lr] * 3, "lengths": [length / lr] * 3}
    return {**rule.init(HERE), **window, "step": step, "ceiling": 8.0 / s * lr, "arrived": True}


def test_under_the_ceiling_an_outlier_moves_nothing_and_two_cut_by_gamma_down():
    rule = policies.Ceiling()
    once, state = rule.propose(at(30, 1.0, 800.0, 0.01), arrived(rule))
    assert once.hyperparameters.lr == pytest.approx(1.0)
    twice, _ = rule.propose(at(50, 1.0, 800.0, 0.01), state)
    assert twice.hyperparameters.lr == pytest.approx(0.8)


def test_under_the_ceiling_lr_rises_no_faster_than_the_number_of_steps():
    rule = policies.Ceiling()
    state, lr = arrived(rule, step=20, s=1e-6), 1.0
    for step in range(21, 100):
        lr = rule.between(step, Hyperparameters(lr=lr), state).lr
    assert lr == pytest.approx(100 / 21, rel=1e-9)  # the product of (step + 1) / step


def test_lr_stops_at_the_ceiling():
    rule = policies.Ceiling()
    lr = rule.between(11, Hyperparameters(lr=0.99), arrived(rule)).lr
    assert lr == 1.0
    assert rule.between(12, Hyperparameters(lr=lr), arrived(rule)).lr == 1.0


def test_the_reason_names_the_phase_of_the_run():
    rule = policies.Ceiling(total_steps=100, decay=0.4)
    decision, state = rule.propose(at(0, 1.0, 1.0, 0.01), rule.init(HERE))
    words = [decision.reason.partition(":")[0]]
    for step, s in ((5, 1.0), (10, 1e3), (20, 1.0), (60, 1.0), (61, 1.0), (99, 1.0)):  # lr falls in the last 40 steps
        decision, state = rule.propose(at(step, 1.0, s, 0.01), state)
        words.append(decision.reason.partition(":")[0])
    assert words == ["start", "rise", "arrived", "under the ceiling", "under the ceiling", "decay", "decay"]


def test_the_decay_is_a_straight_line_over_the_last_part_and_reaches_0_after_the_last_step():
    rule = policies.Ceiling(total_steps=100, decay=0.4)
    state, lr, course = arrived(rule), 1.0, []
    for step in range(11, 130):
        lr = rule.between(step, Hyperparameters(lr=lr), state).lr
        course.append(lr)
    expected = [min(1.0, max(100 - step, 1) / 40) for step in range(11, 130)]
    assert course == pytest.approx(expected, rel=1e-9)


def test_the_decay_from_a_bound_is_the_same_line():
    # Room under the ceiling is no reason to make up for the decay: lr would stay at the bound until far into it.
    rule = policies.Ceiling(total_steps=100, decay=0.4, max_lr=0.5)
    state, lr, course = arrived(rule, s=1.0), 0.5, []
    for step in range(11, 100):
        lr = rule.between(step, Hyperparameters(lr=lr), state).lr
        course.append(lr)
    expected = [0.5 * min(1.0, (100 - step) / 40) for step in range(11, 100)]
    assert course == pytest.approx(expected, rel=1e-9)


def test_what_others_make_of_lr_in_between_is_what_it_goes_on_from():
    rule = policies.Ceiling()
    state = arrived(rule, s=1.0)
    assert rule.between(11, Hyperparameters(lr=0.5), state).lr == pytest.approx(0.5 * 12 / 11)
    decision, _ = rule.propose(at(11, 0.5, 0.5, 0.005), state)
    assert decision.hyperparameters.lr == pytest.approx(0.5 * 12 / 11)


def test_a_second_probe_of_the_same_step_does_not_rise_again():
    rule = policies.Ceiling()
    lr, state = started(rule)
    decision, _ = rule.propose(at(0, lr, lr, 0.01 * lr), state)
    assert decision.hyperparameters.lr == pytest.approx(lr)
    assert rule.between(0, Hyperparameters(lr=lr), state).lr == lr


WRONG = [
    ({"target": 0.0}, r"target must be positive and finite, got 0.0"),
    ({"total_steps": 0}, r"total_steps must be at least 1 step, got 0"),
    ({"max_relative_step": -1.0}, r"max_relative_step must be positive, got -1.0"),
    ({"first_relative_step": math.nan}, r"first_relative_step must be positive, got nan"),
    ({"growth": 0.9}, r"growth must be at least 1 and finite, got 0.9"),
    ({"gamma_down": 0.0}, r"gamma_down must be in \(0, 1\], got 0.0"),
    ({"gamma_arrival": 1.5}, r"gamma_arrival must be in \(0, 1\], got 1.5"),
    ({"decay": 1.5}, r"decay must be a share between 0 and 1, or None, got 1.5"),
    ({"watched": -0.1}, r"watched must be a share between 0 and 1, got -0.1"),
    ({"window": 0}, r"window must be at least 1 probe, got 0"),
    ({"min_lr": 1.0, "max_lr": 0.1}, r"bounds of lr must satisfy"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG, ids=[next(iter(settings)) for settings, _ in WRONG])
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        policies.Ceiling(**settings)


# --- in closed loop


def quadratic_run(lr: float, num_steps: int, **options):
    """SGD with momentum on curvatures 1 and 100, from (1, 1) to (3, 3)."""
    weight, curvatures = nn.Parameter(torch.ones(2, dtype=torch.float64)), torch.tensor([1.0, 100.0])
    recorder = MemoryRecorder()
    optimizer = DCAO(
        optim.SGD([weight], lr=lr, momentum=0.9), recorder=recorder, measure=ProbeSettings(hvp="exact"), **options
    )
    for _ in range(num_steps):
        loss = optimizer.minimize(lambda: 0.5 * (curvatures * (weight - 3.0).square()).sum())
    return float(loss), recorder, optimizer


@pytest.mark.parametrize("lr", [1e-7, 1e-2, 10.0])
def test_on_a_quadratic_every_start_gives_the_same_run(lr):
    loss, recorder, _ = quadratic_run(lr, 300)
    reference, expected, _ = quadratic_run(1e-3, 300)
    assert loss < 1e-5 * 202.0  # the loss at the start
    assert loss == reference
    assert [record.after.lr for record in recorder.records] == [record.after.lr for record in expected.records]


@pytest.mark.parametrize("base", [optim.AdamW, partial(optim.SGD, momentum=0.9)], ids=["adamw", "sgd"])
def test_two_starts_train_a_network_to_the_same_bits(base):
    # In float32, where s and l at lr 1e-7 and at 10 differ in their sixth digit.
    def trained(lr):
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(256, 8, generator=generator), torch.randint(3, (256,), generator=generator)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        optimizer = DCAO(base(model.parameters(), lr=lr), total_steps=80)
        for step in range(80):
            rows = slice(32 * (step % 8), 32 * (step % 8) + 32)
            optimizer.minimize(lambda rows=rows: nn.functional.cross_entropy(model(x[rows]), y[rows]))
        return [param.detach() for param in model.parameters()]

    small, large = trained(1e-7), trained(10.0)
    assert all(map(torch.equal, small, large))


def test_the_last_steps_of_a_known_length_are_short():
    _, _, whole = quadratic_run(1e-3, 200)
    _, _, before = quadratic_run(1e-3, 199, total_steps=200)
    _, _, ended = quadratic_run(1e-3, 200, total_steps=200)
    assert ended.param_groups[0]["lr"] < whole.param_groups[0]["lr"] / 10
    # Of the last 60 steps the last has 1 / 60 of the level and the one before 2 / 60; the level grows by 1 / 199.
    assert ended.param_groups[0]["lr"] == pytest.approx(before.param_groups[0]["lr"] / 2, rel=1 / 199 + 1e-9)


def test_a_checkpoint_between_probes_goes_on_bit_for_bit():
    torch.manual_seed(0)
    x, y = torch.randn(32, 4), torch.randn(32, 1)

    def make():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        return model, DCAO(optim.AdamW(model.parameters(), lr=10.0), total_steps=60)

    def train(model, optimizer, num_steps):
        for _ in range(num_steps):
            optimizer.minimize(lambda: (model(x) - y).square().mean())

    model, optimizer = make()
    train(model, optimizer, 60)
    first, before = make()
    train(first, before, 33)
    second, after = make()
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    train(second, after, 27)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), second.parameters(), strict=True))


def test_a_probe_that_is_held_moves_lr_once_a_step_however_often_it_is_made():
    """By hand a loop may probe several times a step, and step() follows."""
    rule = policies.Ceiling()
    here = Hyperparameters(lr=1.0)
    seen = Observation(step=0, s=1e-6, trust=1.0, hyperparameters=here, relative_step=3e-3)
    decision, state = rule.propose(seen, rule.init(here))
    first = decision.hyperparameters
    now = first
    for _ in range(3):
        decision, state = rule.propose(Observation(step=1, s=None, trust=0.0, hyperparameters=now), state)
        now = decision.hyperparameters
    now = rule.between(1, now, state)
    assert now.lr == pytest.approx(rule.growth * first.lr)
    assert rule.between(2, now, state).lr == pytest.approx(rule.growth**2 * first.lr)


# --- bounds and the first step

FIRST_PROBES = [
    ("the relative step", 1.0, 0.5, 0.01 / 0.5),
    ("curvature", 1e5, 0.01, 8.0 / 98304.0),  # 1e5, rounded to 3 / 4 of 2**17
    ("curvature, far above", 1e12, 0.01, 8.0 / (29 / 32 * 2.0**40)),
]


@pytest.mark.parametrize(("name", "s", "length", "lr"), FIRST_PROBES, ids=[row[0] for row in FIRST_PROBES])
def test_the_first_step_is_what_its_own_probe_allows_at_most(name, s, length, lr):
    assert started(policies.Ceiling(), 1.0, s, length)[0] == pytest.approx(lr, rel=1e-12)


def test_a_first_probe_that_allows_nothing_halves_the_first_step():
    # A gradient that is not finite one step away gives no number to start from.
    assert started(policies.Ceiling(), 1.0, math.inf, 0.5)[0] == 0.5 * 0.01 / 0.5


@pytest.mark.parametrize("unit", [1e-20, 1e-7, 1.0, 1e7, 1e20])
def test_lr_reaches_ten_decades_from_the_first_whatever_the_unit(unit):
    # In another unit of the loss, SGD's s and l are a multiple of what they were.
    rule = policies.Ceiling(total_steps=10**9, decay=0.0)
    first, state = started(rule, 1.0, 1e-6 * unit, 0.5 * unit)
    assert first == pytest.approx(0.02 / unit, rel=1 / 32)  # 0.01 / 0.5
    for wanted, kept in ((1e9, 1e9), (1e12, 1e10), (1e-9, 1e-9), (1e-12, 1e-10)):
        lr = rule.between(20, Hyperparameters(lr=first * wanted), state).lr
        assert lr == pytest.approx(first * kept, rel=1e-9)


def test_bounds_that_are_given_are_absolute_each_by_itself():
    first, state = started(policies.Ceiling(min_lr=0.25), 1.0, 1e-6, 0.5)
    assert first == 0.25
    assert policies.Ceiling(max_lr=0.25).between(20, Hyperparameters(lr=0.5), state).lr == 0.25
    assert policies.Ceiling(max_lr=0.25).between(20, Hyperparameters(lr=1e-12), state).lr == 0.25e-10
