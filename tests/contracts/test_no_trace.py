"""A probe leaves no trace: state before == state after, bit for bit, whatever the loss does and wherever it fails."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from dcao import DCAO, policies
from helpers.contract_cases import (
    BATCHES,
    DEVICE,
    MEASURES,
    NAMED_CASES,
    Run,
    assert_same,
    assert_same_tensors,
    case_name,
    dcao_run,
    make_model,
    named,
    options,
    seed_everything,
    snapshot,
    trainable,
    watching,
)
from helpers.counting import Count

HVP_KINDS = ("auto", "exact", "central", "forward")


class Untidy:
    """A loss that touches everything it can reach, and fails at its n-th evaluation if told to."""

    def __init__(self, run: Run, *, inner_autocast: bool = False, fails_at: int | None = None) -> None:
        self.run, self.inner_autocast, self.fails_at = run, inner_autocast, fails_at
        self.count = Count()

    def __call__(self) -> Tensor:
        num_evaluations = self.count.add()
        inputs, targets = BATCHES[0]
        model = self.run.model
        noise = torch.randn(()) + random.random() + float(np.random.rand())  # noqa: NPY002
        with bf16() if self.inner_autocast else contextlib.nullcontext():
            loss = F.cross_entropy(model(inputs).float(), targets) * (1.0 + 0.01 * float(noise))
        model[0].weight.requires_grad_(True)
        model[4].eval()
        if num_evaluations == self.fails_at:
            raise RuntimeError("the loss gave up")
        return loss


@contextlib.contextmanager
def bf16() -> Iterator[None]:
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        yield


def used_run(**settings: Any) -> Run:
    """Some way into training, with gradients in place."""
    seed_everything()
    run = dcao_run(named("adamw-wd"), **watching(**settings)).advance(2)
    run.backward()
    return run


def probe_leaves_no_trace(run: Run, loss_fn: Any, *, error: str | None = None) -> None:
    held = [p.grad for p in run.model.parameters()]  # alive, so that an id is not given away again
    before = snapshot(run)
    with pytest.raises(RuntimeError, match=error) if error else contextlib.nullcontext():
        run.optimizer.probe(loss_fn, spectrum=True)
    assert_same(snapshot(run), before)
    assert all(p.grad is grad for p, grad in zip(run.model.parameters(), held, strict=True))


@pytest.mark.parametrize("hvp", HVP_KINDS)
@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_and_kind_of_product(measure, hvp):
    run = used_run(measure=measure, hvp=hvp, smallest=True)
    loss_fn = Untidy(run)
    probe_leaves_no_trace(run, loss_fn)
    assert run.optimizer.last_estimate.stability[measure] is not None
    assert int(loss_fn.count) > 1


@pytest.mark.parametrize("inner", [False, True], ids=["", "inner-autocast"])
@pytest.mark.parametrize("outer", [False, True], ids=["", "outer-autocast"])
@pytest.mark.parametrize("measure", MEASURES)
def test_autocast_outside_and_inside(measure, outer, inner):
    run = used_run(measure=measure)
    with bf16() if outer else contextlib.nullcontext():
        before = run.loss()  # fills autocast's cache of weights
        before.backward()
        probe_leaves_no_trace(run, Untidy(run, inner_autocast=inner))
    assert run.optimizer.last_estimate.s is not None


def test_a_probe_under_autocast_sees_the_moved_weights_and_not_the_cached_ones():
    """The curvature of a quadratic, in steps that bfloat16 can see, at autocast's own precision of 2 to 3 digits."""
    layer = nn.Linear(4, 4, bias=False).to(DEVICE)
    inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    run = Run(layer, DCAO(optim.SGD(layer.parameters(), lr=0.1), **options(**watching(hvp="central", step_length=1.0))))

    def loss() -> Tensor:
        with bf16():
            return layer(inputs).float().square().mean()

    with bf16():
        loss()
        estimate = run.optimizer.probe(loss, spectrum=True)
    expected = float(torch.linalg.eigvalsh(2.0 * inputs.T @ inputs / inputs.numel())[-1])
    assert estimate.sharpness == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("hvp", ["central", "forward"])
@pytest.mark.parametrize("measure", MEASURES)
def test_an_exception_inside_the_loss(measure, hvp, fails_at):
    run = used_run(measure=measure, hvp=hvp)
    probe_leaves_no_trace(run, Untidy(run, fails_at=fails_at), error="the loss gave up")
    run.advance(2)  # and training goes on


def test_an_exception_inside_the_gradient_of_the_loss():
    run = used_run(measure="hessian")

    class Gives(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            raise RuntimeError("the gradient gave up")

    probe_leaves_no_trace(run, lambda: Gives.apply(run.loss()), error="the gradient gave up")


@pytest.mark.parametrize("case", NAMED_CASES, ids=case_name)
def test_a_probe_before_the_first_step_writes_no_optimizer_state(case):
    """Adam's family skips its own set-up where it finds a state."""
    run = dcao_run(case, **watching())
    before = {id(p): dict(state) for p, state in run.optimizer.base.state.items()}  # Adagrad has one from the start
    run.optimizer.probe(run.loss, spectrum=True)
    assert {id(p): dict(state) for p, state in run.optimizer.base.state.items()}.keys() == before.keys()
    run.advance(1)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("fails_at", [2, 3])
def test_a_probe_that_fails_in_the_middle_of_training_is_a_reason_in_the_log(measure, fails_at):
    """minimize evaluates the loss once; what fails from then on fails inside the probe."""
    seed_everything()
    run = dcao_run(named("adamw-wd"), **watching(measure=measure, hvp="central")).advance(2)
    seed_everything()
    bare = dcao_run(named("adamw-wd"), policy=policies.Fixed()).advance(2)
    seed_everything()
    run.optimizer.minimize(Untidy(run, fails_at=fails_at))
    after = snapshot(run)
    seed_everything()
    bare.optimizer.minimize(Untidy(bare))
    assert_same_tensors(after["tensors"], snapshot(bare)["tensors"])
    assert run.optimizer.last_estimate.reason == "the probe failed: RuntimeError: the loss gave up"
    assert run.optimizer.last_estimate.trust == 0.0


def group_run(groups: tuple[int, ...] | None, **settings: Any) -> Run:
    model = make_model()
    params = trainable(model)
    groups_of_params = [{"params": params[:2]}, {"params": params[2:]}]
    return Run(model, DCAO(optim.AdamW(groups_of_params, lr=3e-3), **options(groups=groups, **settings)), "closure")


@pytest.mark.parametrize("measure", MEASURES)
def test_a_closure_probed_on_some_groups_leaves_the_gradients_of_the_others(measure):
    """A probe calls the closure again: it zeroes and fills the gradients of all groups."""
    seed_everything()
    bare = group_run(None, policy=policies.Fixed()).advance(4)
    seed_everything()
    watched = group_run((0,), **watching(measure=measure)).advance(4)
    assert watched.losses == bare.losses
    assert_same_tensors(snapshot(watched)["tensors"], snapshot(bare)["tensors"])


def test_a_closure_leaves_the_gradients_of_parameters_that_another_optimizer_trains():
    model = make_model()
    body, head = trainable(model)[:-2], trainable(model)[-2:]
    run = Run(model, DCAO(optim.SGD(body, lr=0.01), **options(**watching())))
    seed_everything()
    run.optimizer.step(run.backward)
    gradients = [p.grad.clone() for p in head]
    seed_everything()
    bare = Run(make_model(), optim.SGD(trainable(model), lr=0.0))
    bare.backward()
    for gradient, p in zip(gradients, trainable(bare.model)[-2:], strict=True):
        assert torch.equal(gradient, p.grad)


def test_gradients_accumulated_in_place_are_what_they_were():
    """``backward`` adds into the tensor that is there; a probe of a closure must not reach it."""
    run = used_run()
    run.way = "closure"
    held = {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}

    def accumulating() -> Tensor:
        loss = run.loss()
        loss.backward()
        return loss

    expected = {name: grad.clone() for name, grad in held.items()}
    seed_everything()
    run.optimizer.step(accumulating)
    bare = used_run()
    seed_everything()
    bare.loss().backward()
    for name, p in bare.model.named_parameters():
        if p.grad is not None:
            assert torch.equal(held[name], p.grad), name
            assert not torch.equal(held[name], expected[name])


def test_retained_graphs_of_the_training_loss_stay_usable():
    """A GAN's step: the loss's graph is used again after the probe."""
    run = used_run()
    loss = run.loss()
    loss.backward(retain_graph=True)
    expected = [p.grad.clone() for p in trainable(run.model)]
    run.optimizer.probe(run.loss, spectrum=True)
    run.optimizer.zero_grad()
    loss.backward()
    again = [p.grad for p in trainable(run.model)]
    run.optimizer.zero_grad()
    seed_everything()
    assert all(torch.isfinite(grad).all() for grad in again)
    assert len(expected) == len(again)


def test_zero_grad_keeps_torchs_choice():
    run = used_run()
    run.optimizer.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in trainable(run.model))
    run.optimizer.probe(run.loss)
    assert all(p.grad is not None and not p.grad.any() for p in trainable(run.model))
    run.optimizer.zero_grad()
    assert all(p.grad is None for p in trainable(run.model))
