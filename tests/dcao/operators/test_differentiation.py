"""Losses that ``autograd.grad`` refuses, or for which it is silently wrong, are differentiated by ``backward``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

from dcao import DCAO, MemoryRecorder
from dcao.operators import FiniteDifferenceOperator, HessianOperator, Unsupported, make_hessian


class Recomputed(torch.autograd.Function):
    """What MemCNN, DeepSpeed and Megatron do: no graph inside; it is built in the backward pass, which fills .grad."""

    @staticmethod
    def forward(ctx, block: nn.Module, refuses: str, x: Tensor) -> Tensor:
        ctx.block, ctx.refuses = block, refuses
        ctx.save_for_backward(x)
        return block(x)

    @staticmethod
    def backward(ctx, grad: Tensor):
        if ctx.refuses and not torch.autograd._is_checkpoint_valid():
            raise RuntimeError(ctx.refuses)
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            torch.autograd.backward(ctx.block(x), grad)
        return None, None, x.grad


@dataclass(frozen=True)
class Way:
    """How the middle of a network is run."""

    name: str
    run: Callable[[nn.Module, Tensor], Tensor]


WAYS = [
    Way("re-entrant checkpoint", lambda block, x: checkpoint(block, x, use_reentrant=True)),
    Way("refusal of another library", lambda block, x: Recomputed.apply(block, "F is not compatible with .grad()", x)),
    Way("no refusal", lambda block, x: Recomputed.apply(block, "", x)),  # a reversible block; autograd.grad gives zeros
]
EVERY_WAY = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)


class Network:
    """Smooth, in float64, with a middle that is run in some way."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor] = lambda block, x: block(x)) -> None:
        generator = torch.Generator().manual_seed(0)
        self.first, self.last = nn.Linear(4, 5).double(), nn.Linear(5, 3).double()
        self.middle = nn.Sequential(nn.Tanh(), nn.Linear(5, 5), nn.Tanh()).double()
        self.x = torch.randn(32, 4, generator=generator, dtype=torch.float64)
        self.y = torch.randint(0, 3, (32,), generator=generator)
        self.run, self._calls = run, count()  # an iterator, which a probe cannot put back
        with torch.no_grad():
            for p in self.params:
                p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64))

    @property
    def params(self) -> list[nn.Parameter]:
        return [p for part in (self.first, self.middle, self.last) for p in part.parameters()]

    @property
    def num_evaluations(self) -> int:
        return int(repr(self._calls).strip("count()"))

    def loss(self) -> Tensor:
        next(self._calls)
        return F.cross_entropy(self.last(self.run(self.middle, self.first(self.x))), self.y)


@EVERY_WAY
@pytest.mark.parametrize("measure", ["load", "batch", "preconditioned", "hessian"])
def test_s_is_that_of_the_same_network_without_the_function(way, measure):
    plain, network = Network(), Network(way.run)
    expected = DCAO(torch.optim.AdamW(plain.params, lr=1e-3), measure=measure).probe(plain.loss)
    found = DCAO(torch.optim.AdamW(network.params, lr=1e-3), measure=measure).probe(network.loss)
    # load and batch: the same differences; eigenvalues: central differences, whose error is u**(2/3), 1e-10 of float64.
    assert found.s == pytest.approx(expected.s, rel=1e-8)
    assert found.trust == pytest.approx(expected.trust)


@EVERY_WAY
def test_the_default_run_is_that_of_the_same_network_without_the_function(way):
    lrs = []
    for network in (Network(), Network(way.run)):
        optimizer = DCAO(torch.optim.AdamW(network.params, lr=1e-7))
        for _ in range(40):
            optimizer.minimize(network.loss)
        lrs.append(optimizer.param_groups[0]["lr"])
    assert lrs[1] == pytest.approx(lrs[0], rel=1e-9)  # the same sums in the same order, up to where grads are added
    assert lrs[1] > 1e-3


@EVERY_WAY
def test_the_refusal_costs_one_evaluation_in_a_run(way):
    network, recorder = Network(way.run), MemoryRecorder()
    optimizer = DCAO(torch.optim.AdamW(network.params, lr=1e-3), every=1, recorder=recorder)
    for _ in range(5):
        optimizer.minimize(network.loss)
    is_refused = way.name != "no refusal"
    # The first probe also evaluates the loss once more to see that it repeats.
    assert network.num_evaluations - 5 == sum(record.cost for record in recorder.records) + is_refused == 6 + is_refused
    assert [record.cost for record in recorder.records[1:]] == [1.0] * 4


def test_the_words_of_the_refusal_do_not_matter():
    network, plain = Network(lambda block, x: Recomputed.apply(block, "do as usual, please", x)), Network()
    optimizers = [DCAO(torch.optim.AdamW(each.params, lr=1e-3)) for each in (network, plain)]
    found, expected = (optimizers[0].probe(network.loss).s, optimizers[1].probe(plain.loss).s)
    assert found == pytest.approx(expected, rel=1e-8)


@EVERY_WAY
def test_operators_by_themselves_have_the_dense_hessian(way):
    network, plain = Network(way.run), Network()
    exact = HessianOperator(plain.loss, plain.params)
    vector = torch.linspace(-1.0, 1.0, exact.size, dtype=torch.float64)
    differences = FiniteDifferenceOperator(network.loss, network.params)
    automatic = make_hessian(network.loss, network.params)
    for operator in (differences, automatic):
        torch.testing.assert_close(operator.matvec(vector), exact.matvec(vector), rtol=1e-6, atol=1e-8)
    assert automatic.kind == "central"
    with pytest.raises(Unsupported, match=r"double backward failed"):
        HessianOperator(network.loss, network.params).matvec(vector)


class Whole(Network):
    """All parameters are inside of one checkpoint, or only those behind it are not."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor], *, head: bool) -> None:
        super().__init__(run)
        self.whole, self.head = nn.Sequential(self.first, *self.middle, *([] if head else [self.last])), head
        self.x.requires_grad_()

    def loss(self) -> Tensor:
        output = self.run(self.whole, self.x)
        return F.cross_entropy(self.last(output) if self.head else output, self.y)


@EVERY_WAY
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("measure", ["load", "hessian"])
def test_parameters_that_the_graph_does_not_show_are_not_missed(way, head, measure):
    """autograd.grad passes by a checkpoint that is on no way to the parameters that it is asked for."""
    networks = [Whole(run, head=head) for run in (lambda block, x: block(x), way.run)]
    optimizers = [DCAO(torch.optim.AdamW(each.params, lr=1e-3), measure=measure) for each in networks]
    expected, found = (o.probe(each.loss).s for o, each in zip(optimizers, networks, strict=True))
    assert found == pytest.approx(expected, rel=1e-8)


def test_a_probe_by_backward_fires_no_hook_on_a_filled_gradient_and_leaves_no_trace():
    """Some users take the optimizer's step in such a hook."""
    network = Network(WAYS[0].run)
    optimizer = DCAO(torch.optim.AdamW(network.params, lr=1e-3))
    fired: list[int] = []
    for p in network.params:
        p.register_post_accumulate_grad_hook(lambda p: fired.append(1))
        p.grad = torch.full_like(p, 3.0)
    before = [p.detach().clone() for p in network.params]
    for _ in range(2):
        assert optimizer.probe(network.loss).s is not None
    assert not fired
    for p, value in zip(network.params, before, strict=True):
        assert torch.equal(p, value)
        assert torch.equal(p.grad, torch.full_like(p, 3.0))
    network.loss().backward()
    assert len(fired) == len(network.params)


def test_a_loss_whose_backward_pass_fails_is_tried_in_both_ways_once():
    class Gives(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx, grad: Tensor) -> Tensor:
            raise RuntimeError("the gradient gave up")

    network = Network(lambda block, x: Gives.apply(block(x)))
    optimizer = DCAO(torch.optim.AdamW(network.params, lr=1e-3))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the gradient gave up"):
            optimizer.probe(network.loss)
    assert network.num_evaluations == 2 + 1


def test_weights_kept_by_parametrize_cached_are_computed_again_in_a_probe():
    def run(*, cached: bool) -> float:
        torch.manual_seed(0)
        layer = parametrizations.orthogonal(nn.Linear(4, 4)).double()
        x, y = torch.randn(16, 4).double(), torch.randn(16, 4).double()
        optimizer = DCAO(torch.optim.SGD(layer.parameters(), lr=1e-7))
        for _ in range(12):
            if cached:
                with parametrize.cached():
                    optimizer.minimize(lambda: F.mse_loss(layer(layer(x)), y))
                    assert parametrize._cache  # the caller's is there again after the probe
            else:
                optimizer.minimize(lambda: F.mse_loss(layer(layer(x)), y))
        return optimizer.param_groups[0]["lr"]

    assert run(cached=True) == pytest.approx(run(cached=False), rel=1e-9)
