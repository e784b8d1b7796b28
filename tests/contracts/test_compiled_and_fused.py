"""Models whose loss torch cannot differentiate twice are measured without the user doing anything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch._dynamo.testing
import torch._dynamo.utils
import torch.nn.functional as F
from torch import nn

from dcao import DCAO, hessian_spectrum, policies
from helpers.cases import Attention
from helpers.contract_cases import (
    MEASURES,
    WHERE,
    Run,
    adapting,
    assert_same,
    bare_run,
    dcao_run,
    named,
    options,
    seed_everything,
    snapshot,
    trainable,
    watching,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:torch")


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(run: Run) -> Run:
    plain = run.model
    run.model = torch.compile(plain, backend="aot_eager")
    return run


@pytest.mark.parametrize("way", ["minimize", "closure", "probe+step"])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_compiled_model_trains_as_if_bare_and_is_measured(measure, way):
    seed_everything()
    bare = compiled(bare_run(named("adamw-wd"))).advance(4)
    expected = snapshot(bare)
    seed_everything()
    watched = compiled(dcao_run(named("adamw-wd"), way=way, **watching(measure=measure))).advance(4)
    assert watched.losses == bare.losses
    assert_same(snapshot(watched), expected, ignore=WHERE)
    assert watched.optimizer.last_estimate.s is not None


@pytest.mark.parametrize("measure", ["hessian", "preconditioned"])
def test_a_compiled_model_falls_back_to_finite_differences_and_says_so(measure):
    settings = watching(measure=measure, num_lanczos_steps=15, k=1, spectrum_every=None)
    seed_everything()
    run = compiled(dcao_run(named("adamw-wd"), **settings)).advance(1)
    estimate = run.optimizer.last_estimate
    assert estimate.hvp == "central"
    assert "double backward" in estimate.reason
    assert "central finite differences, step length" in estimate.reason
    seed_everything()
    plain = dcao_run(named("adamw-wd"), **settings).advance(1).optimizer.last_estimate
    assert plain.hvp == "exact"
    assert estimate.s == pytest.approx(plain.s, rel=0.1)  # Lanczos stops at 1 %; differences of tiny g


def test_exact_products_of_a_compiled_model_are_refused_in_the_log_and_training_goes_on():
    run = compiled(dcao_run(named("adamw-wd"), **watching(measure="hessian", hvp="exact")))
    with pytest.warns(UserWarning, match=r"cannot differentiate this loss twice.*set hvp=\"auto\""):
        run.advance(2)
    assert "double backward" in run.optimizer.last_estimate.reason
    assert run.optimizer.last_estimate.s is None


def test_probing_does_not_make_the_compiler_start_over():
    counts = []
    for settings in ({"policy": policies.Fixed()}, watching(measure="load")):
        torch._dynamo.reset()
        counter = torch._dynamo.testing.CompileCounter()
        run = dcao_run(named("adamw-wd"), **settings)
        run.model = torch.compile(run.model, backend=counter)
        run.advance(5)
        counts.append(counter.frame_count)
    assert counts[1] == counts[0]


class Classifier(nn.Module):
    """Fused attention with dropout around it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 16)
        self.attention = Attention(16, 2, is_causal=True)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(x.unsqueeze(-1))
        return self.head(self.dropout(hidden + self.attention(hidden)).mean(dim=1))


def transformer_run(**settings) -> Run:
    torch.manual_seed(0)
    model = Classifier().train()
    return Run(model, DCAO(torch.optim.AdamW(trainable(model), lr=1e-3), **options(**settings)))


@pytest.mark.parametrize("way", ["minimize", "closure"])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_transformer_with_fused_attention_is_measured_as_it_is(measure, way):
    run = transformer_run(**adapting(measure=measure, spectrum_every=1, num_lanczos_steps=12))
    run.way = way
    run.advance(3)
    estimate = run.optimizer.last_estimate
    assert estimate.s > 0.0
    assert estimate.trust > 0.5
    assert estimate.sharpness > 0.0
    assert run.optimizer.effective_lrs != [1e-3]


def test_the_fused_kernel_is_really_used_and_really_cannot_be_differentiated_twice():
    run = transformer_run(policy=policies.Fixed())
    gradient = torch.autograd.grad(run.loss(), trainable(run.model), create_graph=True)
    total = sum(g.sum() for g in gradient)
    with pytest.raises(RuntimeError, match="_scaled_dot_product_flash_attention_for_cpu_backward"):
        torch.autograd.grad(total, trainable(run.model), allow_unused=True)


def test_dropout_inside_fused_attention_is_measured_too():
    heads = torch.randn(2, 4, 8, requires_grad=True)
    model = nn.ParameterList([heads])
    optimizer = DCAO(
        torch.optim.SGD(model.parameters(), lr=1e-3), **options(**adapting(measure="hessian", num_lanczos_steps=12))
    )
    loss = lambda: F.scaled_dot_product_attention(*[model[0]] * 3, dropout_p=0.5).square().mean()  # noqa: E731
    optimizer.minimize(loss)
    assert optimizer.last_estimate.s is not None
    assert optimizer.last_estimate.trust > 0.5


@pytest.mark.parametrize("what", ["step", "closure", "minimize", "probe_if_due"])
def test_a_compiled_training_step_is_the_step_to_the_last_bit(what):
    """As in torch's recipe for compiled optimizers. What DCAO decides is left out, and a compiled model stays one."""

    def run(wrap) -> tuple[list[float], list[float]]:
        torch.manual_seed(0)
        torch._dynamo.reset()
        plain, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(8, 4)
        torch._dynamo.utils.counters.clear()  # a list of the backend's would be put back after a probe
        model = torch.compile(plain, backend="eager")
        optimizer = DCAO(torch.optim.AdamW(plain.parameters(), lr=1e-5))
        step, loss_fn, losses = wrap(optimizer.step), lambda: model(x).square().mean(), []

        def closure():
            optimizer.zero_grad()
            losses.append(loss_fn())
            losses[-1].backward()
            return losses[-1]

        def own_loop(step=optimizer.step):
            optimizer.zero_grad()
            optimizer.probe_if_due(loss_fn)
            losses.append(loss_fn())
            losses[-1].backward()
            step()

        ways = {
            "step": lambda: own_loop(step),
            "closure": wrap(lambda: optimizer.step(closure)),
            "minimize": wrap(lambda: losses.append(optimizer.minimize(loss_fn))),
            "probe_if_due": wrap(own_loop),
        }
        for _ in range(30):
            ways[what]()
        assert optimizer.num_steps == 30
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"]  # of the model
        return [loss.item() for loss in losses], optimizer.effective_lrs

    losses, lrs = run(lambda function: torch.compile(function, backend="eager"))
    assert (losses, lrs) == run(lambda function: function)
    assert lrs[0] > 1e-3


# --- an lr that changes all the time


def batches(num: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    draws = torch.Generator().manual_seed(1)
    for _ in range(num):
        yield torch.randn(16, 6, generator=draws), torch.randint(0, 3, (16,), generator=draws)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


@pytest.mark.parametrize("way", ["minimize", "closure", "probe_if_due"])
def test_a_changing_lr_neither_breaks_the_graph_of_a_model_nor_compiles_it_again(way):
    counter, plain, lrs = torch._dynamo.testing.CompileCounter(), small_network(), set()
    model = torch.compile(plain, backend=counter, fullgraph=True)  # a break would be an error
    optimizer = DCAO(torch.optim.AdamW(plain.parameters(), lr=1e-4), total_steps=200)
    for x, y in batches(40):

        def loss_fn(x=x, y=y):
            return F.cross_entropy(model(x), y)

        def closure(loss_fn=loss_fn):
            optimizer.zero_grad()
            loss = loss_fn()
            loss.backward()
            return loss

        if way == "minimize":
            optimizer.minimize(loss_fn)
        elif way == "closure":
            optimizer.step(closure)
        else:
            optimizer.probe_if_due(loss_fn)
            closure()
            optimizer.step()
        lrs.add(optimizer.effective_lrs[0])
    assert len(lrs) > 20
    assert counter.frame_count == 1


@pytest.mark.parametrize("kind", ["number", "tensor"])
def test_a_compiled_step_of_the_base_is_not_compiled_again_for_a_changing_lr(kind):
    """A tensor lr is written in place; a number is made a symbol by torch when it changes first."""
    torch._dynamo.utils.counters.clear()
    counter, model, frames, lrs = torch._dynamo.testing.CompileCounter(), small_network(), [], set()
    base = torch.optim.AdamW(model.parameters(), lr=torch.tensor(1e-4) if kind == "tensor" else 1e-4)
    base.step = torch.compile(base.step, backend=counter)
    optimizer = DCAO(base, total_steps=200)
    for x, y in batches(40):
        optimizer.minimize(lambda x=x, y=y: F.cross_entropy(model(x), y))
        lrs.add(optimizer.effective_lrs[0])
        frames.append(counter.frame_count)
    assert len(lrs) > 20
    assert frames[0] == 1
    assert frames[-1] == frames[1] == (1 if kind == "tensor" else 2)
    # torch breaks the graph of every optimizer's step once, by hand, and nothing here adds to that.
    assert all("torch._dynamo.graph_break()" in reason for reason in torch._dynamo.utils.counters["graph_break"])


# --- inside of functions that are compiled


def with_scheduler(optimizer: DCAO, loss_fn) -> list[float]:
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=4)
    for _ in range(3):
        optimizer.minimize(loss_fn)
        scheduler.step()
    return optimizer.effective_lrs


def added_group(optimizer: DCAO, loss_fn) -> int:
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    return len(optimizer.param_groups)


def reloaded(optimizer: DCAO, loss_fn) -> list[float]:
    optimizer.load_state_dict(optimizer.state_dict())
    return optimizer.effective_lrs


INSIDE = {
    "effective lrs": lambda optimizer, loss_fn: [2.0 * lr for lr in optimizer.effective_lrs],
    "probe": lambda optimizer, loss_fn: optimizer.probe(loss_fn).s,
    "minimize": lambda optimizer, loss_fn: optimizer.minimize(loss_fn).item(),
    "micro-batches and a clip": lambda optimizer, loss_fn: optimizer.minimize([loss_fn] * 2, clip_norm=0.1).item(),
    "scheduler": with_scheduler,
    "new group": added_group,
    "checkpoint": reloaded,
    "spectrum": lambda optimizer, loss_fn: hessian_spectrum(
        loss_fn, optimizer.param_groups[0]["params"], k=1
    ).ritz_values.tolist(),
}


@pytest.mark.parametrize("what", INSIDE)
def test_what_is_called_in_a_compiled_function_does_what_it_does_outside(what):
    def result(wrap):
        torch._dynamo.reset()
        model, (x, y) = small_network(), next(batches(1))
        optimizer = DCAO(torch.optim.AdamW(model.parameters(), lr=1e-4))
        optimizer.minimize(lambda: F.cross_entropy(model(x), y))
        return wrap(lambda: INSIDE[what](optimizer, lambda: F.cross_entropy(model(x), y)))()

    expected = result(lambda function: function)
    assert result(lambda function: torch.compile(function, backend="eager")) == expected


@pytest.mark.parametrize("name", ["minimize", "probe", "probe_if_due"])
def test_a_graph_that_must_not_break_is_refused_by_the_name_of_the_method(name):
    model, (x, y) = small_network(), next(batches(1))
    optimizer = DCAO(torch.optim.AdamW(model.parameters(), lr=1e-4))

    def call():
        return getattr(optimizer, name)(lambda: F.cross_entropy(model(x), y))

    with pytest.raises(torch._dynamo.exc.Unsupported, match=rf"`DCAO\.{name}` should not be traced"):
        torch.compile(call, backend="eager", fullgraph=True)()
    assert optimizer.num_steps == 0
