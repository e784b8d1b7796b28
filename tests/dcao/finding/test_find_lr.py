"""find_lr on problems whose answer is known, from any lr, from zeros, and where there is no answer."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn, optim

import dcao
from dcao import find_lr
from helpers.counting import Count

GROWTH = 1.1


def quadratic(curvature, *, offset=0.0, dtype=torch.float32):
    """``curvature / 2 * |w - offset|^2`` with w one away from the minimum, and SGD on it."""
    w = nn.Parameter(torch.full((4,), offset, dtype=dtype) + torch.tensor([0.5, -0.5, 0.5, -0.5], dtype=dtype))
    return w, lambda batch: 0.5 * curvature * (w - offset).square().sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("curvature", [1e-4, 1.0, 1e4])
def test_on_a_quadratic_around_zero_a_step_is_an_eighth_of_the_way(curvature, dtype):
    # d = lr * curvature * w, so the relative step is lr * curvature: 0.12 of the way to the minimum.
    w, loss_fn = quadratic(curvature, dtype=dtype)
    found = find_lr(optim.SGD([w], lr=1.0), [None], loss_fn)
    assert 0.12 / curvature < found.lr < GROWTH * 0.12 / curvature
    assert found.relative_step == pytest.approx(found.lr * curvature, rel=1e-3)  # float32 differences
    assert found.s == pytest.approx(found.lr * curvature, rel=1e-2)
    assert found.agreement == pytest.approx(1.0, abs=1e-6)


def test_far_from_zero_a_quadratic_ends_where_steps_overshoot():
    # Weights of 100 and steps of 1: no relative step. s = lr * curvature, and from s = 1 on a step passes the minimum,
    # so that successive gradients are opposite. With the fourth of these the mean of nine cosines is 1/9, which is the
    # first that s exceeds ten times: between 1.1**3 and 1.1**4, or a step later, since the one before moves it.
    w, loss_fn = quadratic(10.0, offset=100.0, dtype=torch.float64)
    found = find_lr(optim.SGD([w], lr=1.0), [None], loss_fn)
    assert GROWTH**3 < 10.0 * found.lr < GROWTH**5
    assert found.reason.startswith("s reached 10 times the agreement")


def network(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)
    x = torch.randn(12, 32, 10, dtype=dtype)
    return model, [(batch, batch[:, :3].argmax(1)) for batch in x]


def cross_entropy(model):
    return lambda batch: F.cross_entropy(model(batch[0]), batch[1])


OPTIMIZERS = {
    "sgd": lambda params, lr: optim.SGD(params, lr=lr, momentum=0.9),
    "adamw": lambda params, lr: optim.AdamW(params, lr=lr),
    "rmsprop": lambda params, lr: optim.RMSprop(params, lr=lr),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_lr_that_was_given_does_not_matter_to_the_last_bit(name):
    model, batches = network()
    tiny, huge = (
        find_lr(OPTIMIZERS[name](model.parameters(), lr), batches, cross_entropy(model)) for lr in (1e-7, 10.0)
    )
    assert tiny.lr is not None
    assert (tiny.lr, tiny.s, tiny.relative_step, tiny.agreement) == (
        huge.lr,
        huge.s,
        huge.relative_step,
        huge.agreement,
    )
    assert tiny.curve == huge.curve


def test_groups_keep_their_ratios_and_lr_is_that_of_the_largest():
    model, batches = network()
    groups = [{"params": model[0].parameters(), "lr": 1e-4}, {"params": model[2].parameters(), "lr": 4e-4}]
    found = find_lr(optim.AdamW(groups), batches, cross_entropy(model))
    assert found.lrs == (pytest.approx(found.lr / 4.0), found.lr)


def test_a_scheduler_that_warms_up_from_zero_leaves_the_ratios_in_initial_lr():
    model, batches = network()
    bare = find_lr(optim.AdamW(model.parameters(), lr=1e-3), batches, cross_entropy(model))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 100)
    found = find_lr(optimizer, batches, cross_entropy(model))
    assert found.lr == bare.lr
    assert optimizer.param_groups[0]["lr"] == 0.0


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_from_weights_that_are_zero_it_finds_what_trains(name):
    model = nn.Linear(10, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    _, batches = network()
    tiny, huge = (
        find_lr(OPTIMIZERS[name](model.parameters(), lr), batches, cross_entropy(model)) for lr in (1e-7, 10.0)
    )
    assert tiny.lr == huge.lr
    optimizer = OPTIMIZERS[name](model.parameters(), tiny.lr)
    loss_fn = cross_entropy(model)
    before = loss_fn(batches[0]).item()
    for batch in batches * 3:
        optimizer.zero_grad()
        loss_fn(batch).backward()
        optimizer.step()
    assert loss_fn(batches[0]).item() < 0.9 * before


def test_the_unit_of_the_loss_is_the_inverse_unit_of_the_lr_of_sgd():
    model, batches = network()
    loss_fn = cross_entropy(model)
    plain = find_lr(optim.SGD(model.parameters(), lr=0.1, momentum=0.9), batches, loss_fn)
    times = find_lr(optim.SGD(model.parameters(), lr=0.1, momentum=0.9), batches, lambda batch: 1024.0 * loss_fn(batch))
    assert times.lr == plain.lr / 1024.0  # a power of two rounds nothing


def test_the_cost_counts_every_gradient_evaluation():
    model, batches = network()
    count = Count()

    def loss_fn(batch):
        count.add()
        return F.cross_entropy(model(batch[0]), batch[1])

    found = find_lr(optim.AdamW(model.parameters(), lr=1e-3), batches, loss_fn)
    assert found.cost == int(count)


def test_too_few_steps_give_no_number_but_a_reason_and_a_fix():
    model, batches = network()
    with pytest.warns(UserWarning, match=r"find_lr found no lr: no limit was met in 5 steps.*Fix: give more num_steps"):
        found = find_lr(optim.AdamW(model.parameters()), batches, cross_entropy(model), num_steps=5)
    assert found.lr is None
    assert found.lrs == ()
    assert len(found.curve) == 5


def test_an_iterator_that_ends_too_early_is_named():
    model, batches = network()
    with pytest.warns(UserWarning, match=r"no limit was met in 12 steps.*where the batches ended. Fix: give more"):
        found = find_lr(optim.AdamW(model.parameters()), iter(batches), cross_entropy(model))
    assert found.lr is None


def test_a_loss_that_is_nan_at_once_gives_no_number():
    model, batches = network()
    with pytest.warns(UserWarning, match="find_lr found no lr: the first batch's step could not be measured"):
        found = find_lr(optim.AdamW(model.parameters()), batches, lambda batch: math.nan * cross_entropy(model)(batch))
    assert found.lr is None
    assert found.curve == ()


def test_a_loss_that_is_another_one_each_time_gives_no_number():
    model, batches = network()
    generator = iter(range(10**6))

    def loss_fn(batch):
        return cross_entropy(model)(batch) * (1.0 + next(generator) % 7)

    with pytest.warns(UserWarning, match="the loss is not the same when it is evaluated again"):
        found = find_lr(optim.AdamW(model.parameters()), batches, loss_fn)
    assert found.lr is None


class Lion(optim.Optimizer):
    """Unknown to DCAO."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1e-3})


MODEL, BATCHES = network()
WRONG = {
    "a class": ((optim.SGD, BATCHES, cross_entropy(MODEL)), TypeError, "got the class SGD; build one"),
    "a DCAO": (
        (dcao.DCAO(optim.SGD(MODEL.parameters(), lr=1.0)), BATCHES, cross_entropy(MODEL)),
        TypeError,
        "optimizer must be the plain one, got DCAO.*pass optimizer.base",
    ),
    "unknown": (
        (Lion(MODEL.parameters()), BATCHES, cross_entropy(MODEL)),
        TypeError,
        "Lion has no stability threshold",
    ),
    "climbing": (
        (optim.SGD(MODEL.parameters(), lr=1.0, maximize=True), BATCHES, cross_entropy(MODEL)),
        ValueError,
        "maximize must be False",
    ),
    "lr 0": ((optim.SGD(MODEL.parameters(), lr=0.0), BATCHES, cross_entropy(MODEL)), ValueError, "lr must be positive"),
    "no batches": ((optim.SGD(MODEL.parameters()), 3, cross_entropy(MODEL)), TypeError, "batches must be an iterable"),
    "an empty loader": (
        (optim.SGD(MODEL.parameters()), [], cross_entropy(MODEL)),
        ValueError,
        "batches must give at least one batch, got none",
    ),
    "a loss": ((optim.SGD(MODEL.parameters()), BATCHES, torch.ones(())), TypeError, "loss_fn must be a function"),
    "a vector": (
        (optim.SGD(MODEL.parameters()), BATCHES, lambda batch: MODEL(batch[0])),
        ValueError,
        "scalar",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_an_error_at_once(name):
    arguments, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        find_lr(*arguments)


@pytest.mark.parametrize(("num_steps", "error"), [(0, ValueError), (2.5, TypeError)])
def test_a_wrong_number_of_steps_is_an_error(num_steps, error):
    with pytest.raises(error, match="num_steps must be"):
        find_lr(optim.SGD(MODEL.parameters()), BATCHES, cross_entropy(MODEL), num_steps=num_steps)
