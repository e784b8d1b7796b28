"""Weights that start at zero, do not move or are in another unit: the lr that is found means the same for all."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

from dcao import DCAO, ProbeSettings

NUM_STEPS = 200
BASES = {
    "adamw": partial(optim.AdamW, weight_decay=0.0),
    "sgd": optim.SGD,
    "momentum": partial(optim.SGD, momentum=0.9),
    "decay": partial(optim.SGD, momentum=0.9, weight_decay=1e-2),
}
over_bases = pytest.mark.parametrize("base", ["adamw", "sgd", "momentum"])


def zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


def mixed(x: Tensor) -> Tensor:
    """Labels of inputs that no linear model knows."""
    return (torch.tanh(x) @ torch.randn(x.shape[1], 5)).argmax(1)


@dataclass(frozen=True)
class Training:
    """Parameters and their loss on some rows of the data."""

    params: list[nn.Parameter]
    loss: Callable[[Tensor], Tensor]
    num_rows: int = 512
    batch: int = 64


def train(
    make: Callable[[], Training], base: str, lr: float, *, num_steps: int = NUM_STEPS, wrapped: bool = True
) -> tuple[float, float, list[Tensor]]:
    """Loss on all rows, largest lr, and the parameters after some steps."""
    torch.manual_seed(0)
    problem, draw, largest = make(), torch.Generator().manual_seed(1), 0.0
    optimizer: optim.Optimizer = BASES[base](problem.params, lr=lr)
    if wrapped:
        optimizer = DCAO(optimizer, total_steps=num_steps)
    for _ in range(num_steps):
        rows = torch.randint(0, problem.num_rows, (problem.batch,), generator=draw)

        def closure(rows: Tensor = rows) -> Tensor:
            optimizer.zero_grad()
            loss = problem.loss(rows)
            loss.backward()
            return loss

        optimizer.step(closure)
        largest = max(largest, optimizer.param_groups[0]["lr"])
    with torch.no_grad():
        loss = problem.loss(torch.arange(problem.num_rows)).item()
    return loss, largest, [p.detach() for p in problem.params]


# --- weights that start at zero


def logistic(unit: float = 1.0, loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy) -> Training:
    x, w, b = torch.randn(512, 20), zeros(20, 5), zeros(5)
    y = (x @ torch.randn(20, 5) + 2.0 * torch.randn(512, 5)).argmax(1)
    return Training([w, b], lambda i: loss(unit * x[i] @ w + b, y[i]))


def least_absolute_errors() -> Training:
    x, w = torch.randn(512, 20), zeros(20)
    y = x @ torch.randn(20) + torch.randn(512)
    return Training([w], lambda i: F.l1_loss(x[i] @ w, y[i]))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))


def pretrained(x: Tensor, y: Tensor) -> nn.Sequential:
    net = network()
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.requires_grad_(False)


def lora() -> Training:
    x = torch.randn(512, 20)
    net, target = pretrained(x, mixed(x)), mixed(x)
    a, b = nn.Parameter(torch.randn(20, 4) / 4.0), zeros(4, 64)
    return Training([a, b], lambda i: F.cross_entropy(net[2](F.relu(net[0](x[i]) + x[i] @ a @ b)), target[i]))


def prompt() -> Training:
    x = torch.randn(512, 20)
    y = mixed(x)
    net, p = pretrained(x, y), zeros(8)
    return Training([p], lambda i: F.cross_entropy(net(torch.cat([p.expand(len(i), 8), x[i, 8:]], 1)), y[i]))


def adversarial() -> Training:
    """The perturbation of length 3 at most that raises the loss of a network most."""
    x = torch.randn(512, 20)
    y = mixed(x)
    net, delta = pretrained(x, y), zeros(20)
    projected = lambda: delta * (3.0 / delta.norm().clamp(min=3.0))  # noqa: E731
    return Training([delta], lambda i: -F.cross_entropy(net(x[i] + projected()), y[i]), batch=512)


def all_but_an_embedding() -> Training:
    ids = torch.randint(0, 40, (512,))
    table, hidden, head = nn.Embedding(40, 16), zeros(16, 16), zeros(16, 5)
    hidden_of = lambda i: table(ids[i]) + table(ids[i]) @ hidden  # noqa: E731
    noisy = (ids + (torch.rand(512) < 0.3).long()) % 5
    return Training([table.weight, hidden, head], lambda i: F.cross_entropy(hidden_of(i) @ head, noisy[i]))


def nearly() -> Training:
    problem = logistic()
    with torch.no_grad():
        for p in problem.params:
            p.normal_(std=1e-6)
    return problem


FROM_ZERO: dict[str, Callable[[], Training]] = {
    "logistic": logistic,
    "inputs of 1e-6": partial(logistic, 1e-6),
    "inputs of 1e6": partial(logistic, 1e6),
    "hinge": partial(logistic, loss=F.multi_margin_loss),
    "absolute error": least_absolute_errors,
    "lora": lora,
    "prompt": prompt,
    "adversarial": adversarial,
    "all but an embedding": all_but_an_embedding,
    "nearly zero": nearly,
}
over_zeros = pytest.mark.parametrize("name", FROM_ZERO)


@over_zeros
@pytest.mark.parametrize("base", ["adamw", "momentum"])
def test_from_zero_every_lr_gives_the_same_run_as_good_as_a_sweep(name, base):
    small, _, weights = train(FROM_ZERO[name], base, 1e-7)
    large, _, same = train(FROM_ZERO[name], base, 10.0)
    assert all(map(torch.equal, weights, same))
    assert small == large
    # The base with the best of constant lrs, a decade apart. A few per cent, and what a sweep may gain by chance: about
    # the standard error of a mean of 512 losses that differ by 0.5. The prompt has far to go from where it starts, and
    # 200 steps are short: after 600 it is level.
    best = min(train(FROM_ZERO[name], base, lr, wrapped=False)[0] for lr in (1e-2, 0.1, 1.0))
    assert small < best + (0.1 if name == "prompt" else 0.05) * abs(best) + 0.02


@over_bases
def test_a_last_layer_from_zero_is_trained_as_well_as_one_from_random_weights(base):
    def make(is_zero: bool) -> Training:
        x, net = torch.randn(512, 20), network()
        if is_zero:
            nn.init.zeros_(net[2].weight)
        y = mixed(x)
        return Training(list(net.parameters()), lambda i: F.cross_entropy(net(x[i]), y[i]))

    from_zero, ordinary = (train(partial(make, is_zero), base, 10.0)[0] for is_zero in (True, False))
    assert from_zero < 1.15 * ordinary + 0.02  # two networks that start from other weights


@pytest.mark.parametrize(
    "settings",
    [{"hvp": "exact"}, {"hvp": "central"}, {"step_length": 1e-3}, {"step_length": "step"}],
    ids=["exact", "central", "length", "step"],
)
def test_the_natural_length_does_not_depend_on_how_curvature_is_measured(settings):
    def natural(measure: ProbeSettings) -> float:
        torch.manual_seed(0)
        problem = adversarial()
        optimizer = DCAO(optim.SGD(problem.params, lr=1e-3), measure=measure)
        optimizer.minimize(lambda: problem.loss(torch.arange(512)))
        return optimizer.loop.probe.memory.natural_length

    assert natural(ProbeSettings(**settings)) == natural(ProbeSettings()) > 0.5


def test_a_straight_line_has_steps_of_the_size_of_ordinary_inputs():
    # The loss of a linear model is raised by a perturbation: nothing says how far to go, so sqrt(20) is the length.
    direction = torch.randn(20, generator=torch.Generator().manual_seed(0))
    lrs = []
    for lr in (1e-7, 10.0):
        delta = zeros(20)
        optimizer = DCAO(optim.Adam([delta], lr=lr))
        optimizer.minimize(lambda delta=delta: -(direction @ delta))
        lrs.append(optimizer.param_groups[0]["lr"])
    assert lrs[0] == lrs[1] == pytest.approx(0.01, rel=2 / 32)  # Adam's step is lr for each of 20 entries


def test_a_run_from_zero_goes_on_from_a_checkpoint_bit_for_bit():
    def make() -> tuple[nn.Parameter, DCAO]:
        weight = zeros(20, 5)
        return weight, DCAO(optim.AdamW([weight], lr=1e-3))

    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 20, generator=generator), torch.randint(5, (64,), generator=generator)
    whole, through = make()
    first, before = make()
    for step in range(60):
        through.minimize(lambda: F.cross_entropy(x @ whole, y))
        if step < 23:
            before.minimize(lambda: F.cross_entropy(x @ first, y))
    second, after = make()
    with torch.no_grad():
        second.copy_(first)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    for _ in range(23, 60):
        after.minimize(lambda: F.cross_entropy(x @ second, y))
    assert torch.equal(whole, second)


def test_weights_of_zero_that_are_trained_later_are_measured_against_a_length_too():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 20, generator=generator), torch.randint(5, (64,), generator=generator)
    body, head = nn.Parameter(torch.randn(20, 5, generator=generator)), zeros(5)
    head.requires_grad_(False)
    optimizer = DCAO(optim.SGD([body, head], lr=1e-3), every=1)
    loss = lambda: F.cross_entropy(x @ body + head, y)  # noqa: E731
    optimizer.minimize(loss)
    body.requires_grad_(False)
    head.requires_grad_(True)
    optimizer.minimize(loss)
    assert optimizer.last_estimate.relative_step > 0.0


# --- weights that do not move


def regression(
    *,
    unused: Iterable[nn.Parameter] = (),
    num_rows: int = 40,
    num_columns: int = 20,
    offset: float = 0.0,
    scale: float = 1.0,
    unit: float = 1.0,
) -> Training:
    """A table and a network. Of the table the first 40 rows are read, of the inputs the first 20 are ever not 0."""
    g = torch.Generator().manual_seed(2)
    table, first, last = (nn.Parameter(torch.randn(*shape, generator=g) / 4) for shape in ((40, 8), (28, 32), (32, 1)))
    x, ids = torch.randn(512, 20, generator=g), torch.randint(0, 40, (512,), generator=g)
    y = torch.tanh(x) @ torch.randn(20, generator=g) + torch.randn(40, generator=g)[ids]
    rows, columns = num_rows - 40, num_columns - 20
    if rows:
        table = nn.Parameter(torch.cat([table.detach(), torch.full((rows, 8), 30.0)]))
    if columns:
        first = nn.Parameter(torch.cat([first.detach(), torch.full((columns, 32), 30.0)]))
        x = torch.cat([x, torch.zeros(512, columns)], 1)
    bias, factor = nn.Parameter(torch.tensor([offset])), nn.Parameter(torch.tensor(scale))

    def loss(i: Tensor) -> Tensor:
        out = torch.relu(torch.cat([table[ids[i]], x[i]], 1) @ first) @ last
        return unit * F.mse_loss((out * (factor / scale) + bias - offset)[:, 0], y[i])

    return Training([table, first, last, bias, factor, *unused], loss)


IDLE: dict[str, Callable[[], Training]] = {
    "a parameter": lambda: regression(unused=[nn.Parameter(torch.full((50,), 1e3))]),
    "a frozen one": lambda: regression(unused=[nn.Parameter(torch.full((50,), 1e3), requires_grad=False)]),
    "a few rows": partial(regression, num_rows=42),
    "most rows": partial(regression, num_rows=4000),
    "columns": partial(regression, num_columns=30),
}


@cache
def without_idle_weights(base: str) -> tuple[float, float]:
    return train(regression, base, 1e-3, num_steps=60)[:2]


@pytest.mark.parametrize("name", IDLE)
@pytest.mark.parametrize("base", BASES)
def test_weights_that_do_not_move_change_nothing(name, base):
    # Adding nothing but zeros moves the sums of float32 by roundings, which 60 steps multiply: 1e-3 of lr at most.
    loss, lr, _ = train(IDLE[name], base, 1e-3, num_steps=60)
    assert (loss, lr) == pytest.approx(without_idle_weights(base), rel=1e-3)


def test_tables_of_which_a_batch_sees_few_rows_are_trained_as_well_as_by_a_sweep():
    def make() -> Training:
        of_user, of_item, user, item = (
            torch.randn(5000, 4),
            torch.randn(2000, 4),
            nn.Embedding(5000, 16),
            zeros(2000, 16),
        )
        nn.init.normal_(item)
        users, items = torch.randint(0, 5000, (40000,)), torch.randint(0, 2000, (40000,))
        score = (of_user[users] * of_item[items]).sum(1) / 2.0
        product = lambda b: (user.weight[users[b]] * item[items[b]]).sum(1) / 4.0  # noqa: E731
        return Training([user.weight, item], lambda b: F.mse_loss(product(b), score[b]), num_rows=40000, batch=512)

    loss, lr, _ = train(make, "adamw", 1e-3)
    assert lr < 0.2  # of all rows together l would allow 0.1 / (sqrt(512 / 5000)) and more
    assert loss < 1.1 * min(train(make, "adamw", lr, wrapped=False)[0] for lr in (0.01, 0.03, 0.1))


def test_a_group_whose_lr_is_0_sets_no_scale():
    def first_lr(value: float) -> float:
        generator = torch.Generator().manual_seed(0)
        w, still = nn.Parameter(torch.randn(8, generator=generator)), nn.Parameter(torch.full((8,), value))
        optimizer = DCAO(optim.SGD([{"params": [w]}, {"params": [still], "lr": 0.0}], lr=1e-3))
        optimizer.minimize(lambda: ((w + still - value) * torch.arange(8.0)).square().sum())
        return optimizer.param_groups[0]["lr"]

    assert first_lr(1000.0) == first_lr(1.0)


# --- parameters and losses in another unit


@over_bases
@pytest.mark.parametrize("other", [{"offset": 1e4}, {"scale": 1e3}], ids=["bias of 1e4", "scale of 1e3"])
def test_one_parameter_in_another_unit_does_not_set_the_scale(base, other):
    loss, lr, _ = train(regression, base, 1e-3)
    with_other, other_lr, _ = train(partial(regression, **other), base, 1e-3)
    # The scale of 1e3 hardly trains, so it is another model. The ratio of lrs without a limit on large parameters: 1e3.
    assert lr / 2 < other_lr < 2 * lr
    assert with_other < 1.2 * loss


@pytest.mark.parametrize("base", ["sgd", "momentum"])
@pytest.mark.parametrize("exponent", [-66, -40, -20, 20, 40, 66])
def test_a_loss_in_another_unit_is_the_same_run(base, exponent):
    # Powers of two round nothing, so the weights are the same to the last bit. 2**66 is 7e19.
    loss, lr, weights = train(regression, base, 1e-3, num_steps=60)
    in_unit, other_lr, same = train(partial(regression, unit=2.0**exponent), base, 1e-3, num_steps=60)
    assert in_unit == 2.0**exponent * loss
    assert other_lr == 2.0**-exponent * lr
    assert all(map(torch.equal, weights, same))


@pytest.mark.parametrize("base", ["sgd", "momentum"])
def test_a_loss_in_any_unit_is_brought_as_low(base):
    # The first probe's numbers are rounded elsewhere, by 3 % each, which is another run of the same kind.
    loss, _, _ = train(regression, base, 1e-3)
    for unit in (1e-20, 1e-7, 1e12, 1e20):
        assert train(partial(regression, unit=unit), base, 1e-3)[0] < 1.1 * unit * loss


# --- what the search for a length costs, and what it meets


def test_no_schedule_pays_for_the_search():
    # Overhead's own probes are at steps 0, 18, 27, ...: one evaluation each, a tenth of all.
    problem, probed = logistic(), []
    optimizer = DCAO(optim.SGD(problem.params, lr=1e-3), total_steps=100)
    for _ in range(40):
        before = optimizer.probe_cost
        optimizer.minimize(lambda: problem.loss(torch.arange(64)))
        probed.append(optimizer.probe_cost - before)
    assert probed[0] > 3.0
    assert [step for step, cost in enumerate(probed) if cost] == [0, 18, 27, 36]


def test_a_loss_that_refuses_numbers_far_away_is_searched_near_by():
    # Normal raises a ValueError for a scale that is not positive: here, beyond 3.
    weight = zeros(4)
    y = torch.linspace(-1.0, 1.0, 4)

    def loss() -> Tensor:
        return -torch.distributions.Normal(weight, 9.0 - weight.square().sum(), validate_args=True).log_prob(y).mean()

    optimizer = DCAO(optim.SGD([weight], lr=1e-3))
    optimizer.minimize(loss)
    assert 0.0 < optimizer.loop.probe.memory.natural_length < 6.0
    assert optimizer.last_estimate.trust == 1.0
