"""The check at the first probe: a loss evaluated again at the same point must say the same."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

from dcao import DCAO, MemoryRecorder, ProbeLoader, is_probing, policies, schedules
from dcao.probing.repeatability import Evaluation, Repeats, differences, rounding
from helpers.counting import Count

CURVATURE, LR = 3.0, 0.1
WARNING = "the loss is not the same when it is evaluated again with the same weights"


def weight(size: int = 4) -> nn.Parameter:
    return nn.Parameter(torch.arange(1.0, size + 1.0, dtype=torch.float64))


def quadratic(w: Tensor) -> Tensor:
    return 0.5 * CURVATURE * w.square().sum()


def wrapped(w: nn.Parameter, **settings) -> DCAO:
    return DCAO(optim.SGD([w], lr=LR), **{"policy": policies.Fixed(), "every": 1, "measure": "batch", **settings})


# --- what differs


@pytest.mark.parametrize(
    ("values", "gradients", "expected"),
    [
        ((2.0, 2.0), (1.0, 1.0), []),
        ((2.0, 2.0 + 1e-9), (1.0, 1.0 - 1e-9), []),
        ((2.0, 1.0), (1.0, 1.0), ["the value by 50 %"]),
        ((2.0, 2.0), (1.0, -1.0), ["the gradient by 200 %"]),
        ((0.0, 1e-30), (0.0, 1e-15), ["the value by 100 %", "the gradient by 100 %"]),
        ((0.0, 0.0), (0.0, 0.0), []),
        ((math.nan, 2.0), (1.0, 1.0), []),
        ((math.inf, math.inf), (math.nan, 1.0), []),
    ],
)
def test_differences_are_relative_and_told_in_words(values, gradients, expected):
    first, second = (
        Evaluation(value=value, gradient=[torch.full((2,), entry), torch.full((3, 1), entry)])
        for value, entry in zip(values, gradients, strict=True)
    )
    assert differences(first, second, 1e-4) == expected


def test_what_rounding_explains_depends_on_the_coarsest_dtype_that_takes_part():
    wide, usual, narrow = (torch.zeros(1, dtype=dtype) for dtype in (torch.float64, torch.float32, torch.bfloat16))
    assert rounding([wide]) == pytest.approx(2.0**-26)
    assert rounding([wide, usual]) == pytest.approx(2.0**-11.5)
    assert rounding([usual, narrow]) == pytest.approx(2.0**-3.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert rounding([usual]) == pytest.approx(2.0**-3.5)


# --- a batch drawn inside the loss


def batches(num_batches: int) -> Iterator[tuple[Tensor, Tensor]]:
    x = torch.randn(num_batches * 16, 5, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.TensorDataset(x, x.sum(dim=1, keepdim=True))
    return iter(torch.utils.data.DataLoader(data, batch_size=16))


@pytest.mark.parametrize("way", ["minimize", "closure"])
def test_a_batch_drawn_inside_the_loss_is_told_once_and_no_more_are_eaten(way):
    drawn, model = batches(60), nn.Linear(5, 1)
    optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3))

    def loss_fn() -> Tensor:
        x, y = next(drawn)
        return F.mse_loss(model(x), y)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn()
        loss.backward()
        return loss

    def train(num_steps: int) -> None:
        for _ in range(num_steps):
            optimizer.minimize(loss_fn) if way == "minimize" else optimizer.step(closure)

    with pytest.warns(UserWarning, match=WARNING) as caught:
        train(58)  # the check has taken two batches
    assert len(caught) == 1
    assert "a batch drawn inside the loss, as with next(loader)" in str(caught[0].message)
    with pytest.raises(StopIteration):
        next(drawn)
    assert optimizer.probe_cost == 2.0
    assert (optimizer.last_estimate.s, optimizer.last_estimate.trust) == (None, 0.0)
    assert "the loss differs at each evaluation at the same point" in optimizer.last_estimate.reason
    assert optimizer.param_groups[0]["lr"] == 1e-3


@pytest.mark.parametrize("own", ["function", "loader"])
def test_a_probe_batch_that_differs_each_time_is_told_too(own):
    w, count = weight(), Count()

    def fresh(batch: object = None) -> Tensor:
        return quadratic(w) * count.add()

    probe_batch = fresh if own == "function" else ProbeLoader([torch.ones(1)], fresh, num_batches=1)
    optimizer = wrapped(w, probe_batch=probe_batch)
    with pytest.warns(UserWarning, match=WARNING):
        optimizer.minimize(lambda: quadratic(w))
    assert int(count) == optimizer.probe_cost == 3  # its gradient, and two of the check
    for _ in range(3):
        optimizer.minimize(lambda: quadratic(w))
    assert int(count) == optimizer.probe_cost == 3


def test_no_schedule_pays_for_the_check():
    w, costs = weight(), []

    def schedule(step: int, cost: float) -> bool:
        costs.append(cost)
        return True

    optimizer = wrapped(w, every=schedule)
    for _ in range(3):
        optimizer.minimize(lambda: quadratic(w))
    assert costs[-1] == 3.0 + 1.0  # three probes, and the one to come
    count, costs = Count(), []
    optimizer = wrapped(w, every=schedule)
    with pytest.warns(UserWarning, match=WARNING):
        optimizer.minimize(lambda: quadratic(w) * count.add())
    optimizer.minimize(lambda: quadratic(w))
    assert costs[-1] == 1.0  # nothing was measured


def test_a_loss_that_does_not_repeat_is_not_evaluated_by_probe_again():
    w, count = weight(), Count()
    optimizer = wrapped(w)
    with pytest.warns(UserWarning, match=WARNING):
        optimizer.probe(lambda: quadratic(w) * count.add())
    calls = int(count)
    assert optimizer.probe(lambda: quadratic(w) * count.add()).trust == 0.0
    assert int(count) == calls


# --- two evaluations of the same kind


def other_in_the_training_pass(w: Tensor) -> Callable[[], Tensor]:
    """Twice the loss where DCAO is not probing, as with a state that only the training pass moves."""
    return lambda: quadratic(w) * (1.0 if is_probing() else 2.0)


def test_where_probes_agree_with_each_other_they_measure_from_two_evaluations_of_their_own():
    w, recorder = weight(), MemoryRecorder()
    optimizer = wrapped(w, recorder=recorder)
    loss_fn = other_in_the_training_pass(w)
    with pytest.warns(UserWarning, match=f"{WARNING}: the value by 50 % and the gradient by 50 %"):
        optimizer.minimize(loss_fn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.minimize(loss_fn)
        optimizer.minimize(loss_fn)
    # lr H is that of the loss that probes see: from the training pass's gradient the difference would be -1 / length.
    assert [record.estimate.s for record in recorder.records] == pytest.approx([LR * CURVATURE] * 3, rel=1e-6)
    assert [record.cost for record in recorder.records] == [4.0, 2.0, 2.0]  # the first with two of the check
    assert all("from two evaluations by the probe" in record.estimate.reason for record in recorder.records)


def test_what_was_found_goes_into_checkpoints():
    w = weight()
    optimizer = wrapped(w)
    with pytest.warns(UserWarning, match=WARNING):
        optimizer.minimize(other_in_the_training_pass(w))
    resumed = wrapped(w)
    resumed.load_state_dict(optimizer.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.minimize(other_in_the_training_pass(w))
    assert resumed.last_estimate.s == pytest.approx(LR * CURVATURE, rel=1e-6)


# --- a loss that repeats


@pytest.mark.filterwarnings("error")
def test_noise_of_the_size_of_rounding_is_let_pass():
    """As from sums in another order: 1e-6 of the loss, in float32, where the root of the epsilon is 3e-4."""
    w, count = nn.Parameter(torch.ones(4)), Count()
    optimizer = wrapped(w)
    optimizer.minimize(lambda: quadratic(w) * (1.0 + 1e-6 * (-1) ** count.add()))
    assert optimizer.last_estimate.trust == 1.0
    assert optimizer.probe_cost == 2.0


@pytest.mark.filterwarnings("error")
def test_the_check_is_made_once_and_changes_no_decision(monkeypatch):
    def lrs() -> tuple[list[float], float]:
        w = weight()
        optimizer = DCAO(optim.SGD([w], lr=1.0), every=schedules.Overhead(0.1))
        seen = []
        for _ in range(60):
            optimizer.minimize(lambda: quadratic(w))
            seen.append(optimizer.param_groups[0]["lr"])
        return seen, optimizer.probe_cost

    checked, cost = lrs()
    monkeypatch.setattr("dcao.probing.probe.check", lambda loss, tolerance: Repeats.ALWAYS)
    unchecked, less = lrs()
    assert checked == unchecked
    assert cost == less + 1


@pytest.mark.filterwarnings("error")
def test_a_seed_that_is_set_inside_the_loss_repeats():
    w = weight()

    def loss() -> Tensor:
        torch.manual_seed(3)
        return quadratic(w) + (torch.randn(4, dtype=torch.float64) * w).sum()

    optimizer = wrapped(w)
    optimizer.minimize(loss)
    assert optimizer.last_estimate.s > 0.0
