"""Models whose buffers and parameters are of an uncommon kind train, are probed, and come back from a blow-up."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

from dcao import DCAO, Guard, policies

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(1))
Y = X[:, :3].argmax(1)


def in_inference_mode() -> Tensor:
    with torch.inference_mode():
        return torch.ones(6)


BUFFERS: dict[str, Callable[[], Tensor]] = {
    "expanded": lambda: torch.ones(1).expand(6),
    "expanded-in-part": lambda: torch.ones(6, 1).expand(6, 3)[:, 0],
    "inference-mode": in_inference_mode,
    "sparse": lambda: torch.eye(6).to_sparse(),
    "sparse-rows": lambda: torch.eye(6).to_sparse_csr(),
    "meta": lambda: torch.empty(6, device="meta"),
    "whole-numbers": lambda: torch.arange(6),
    "truths": lambda: torch.ones(6, dtype=torch.bool),
    "eight-bit": lambda: torch.ones(6).to(torch.float8_e4m3fn),
    "complex": lambda: torch.ones(6, dtype=torch.complex64),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(6), 0.1, 0, torch.qint8),
    "empty": lambda: torch.empty(0),
    "with-a-graph": lambda: torch.ones(6, requires_grad=True) * 2.0,
    "transposed": lambda: torch.ones(2, 6).mT[:, 0],
}


class Buffered(nn.Module):
    """A small network with one odd buffer, which it reads where that can be read."""

    def __init__(self, make: Callable[[], Tensor]) -> None:
        super().__init__()
        self.hidden, self.norm, self.out = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.register_buffer("odd", make())

    def forward(self, x: Tensor) -> Tensor:
        readable = self.odd.dtype == torch.float32 and not self.odd.is_meta and not self.odd.requires_grad
        if readable and self.odd.shape == (6,):
            x = x + self.odd
        return self.out(self.norm(self.hidden(x)).relu())


def train(model: nn.Module, num_steps: int = 14, *, blow_up_at: int | None = 4) -> DCAO:
    """Weights that are not finite make the run go back to its snapshot."""
    guard = Guard(snapshot_every=1)
    optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3), every=1, guard=guard)
    for step in range(num_steps):
        if step == blow_up_at:
            list(model.parameters())[-1].data.fill_(float("nan"))
        optimizer.minimize(lambda: F.cross_entropy(model(X), Y))
    return optimizer


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("make", BUFFERS.values(), ids=list(BUFFERS))
def test_an_odd_buffer_is_left_alone(make):
    torch.manual_seed(0)
    model = Buffered(make)
    buffer = model.odd
    optimizer = train(model)
    assert model.odd is buffer
    assert optimizer.last_estimate.s is not None
    assert optimizer.num_skipped >= 3
    assert optimizer.num_restored == 1
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("make", BUFFERS.values(), ids=list(BUFFERS))
def test_watched_training_beside_an_odd_buffer_is_the_bare_optimizers(make):
    models = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = Buffered(make)
        optimizer = optim.AdamW(model.parameters(), lr=1e-3)
        if watched:
            optimizer = DCAO(optimizer, policy=policies.Fixed(), every=1, guard=True)
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            if watched:
                optimizer.probe(lambda model=model: F.cross_entropy(model(X), Y))
            optimizer.step()
        models.append(model)
    for left, right in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(left, right)
    assert torch.equal(*(model.norm.running_var for model in models))


def lazy_model() -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy modules are under development
        return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))


@pytest.mark.parametrize("way", ["minimize", "closure"])
def test_a_lazy_model_trains_from_its_first_batch(way):
    model = lazy_model()
    optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3), every=1, guard=Guard(snapshot_every=1))

    def loss_fn() -> Tensor:
        return F.cross_entropy(model(X), Y)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn()
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.minimize(loss_fn) if way == "minimize" else optimizer.step(closure)
    assert optimizer.last_estimate.s is not None
    assert int(model[1].num_batches_tracked) == 6


def test_a_lazy_model_may_be_saved_before_its_first_batch():
    model = lazy_model()
    optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3))
    optimizer.load_state_dict(optimizer.state_dict())
    for _ in range(3):
        optimizer.minimize(lambda: F.cross_entropy(model(X), Y))
    assert optimizer.num_steps == 3


def test_a_lazy_model_cannot_be_probed_before_its_first_batch():
    model = lazy_model()
    optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3))
    with pytest.raises(ValueError, match="Attempted to use an uninitialized parameter"):
        optimizer.probe(lambda: F.cross_entropy(model(X), Y))


# --- compiled by torch.jit


def scripted(model: nn.Module) -> nn.Module:
    return torch.jit.script(model)


def traced(model: nn.Module) -> nn.Module:
    return torch.jit.trace(model, X, check_trace=False)


def scripted_in_part(model: nn.Module) -> nn.Module:
    model[1] = torch.jit.script(model[1])
    return model


def make_normed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("measure", ["load", "preconditioned"])
@pytest.mark.parametrize("how", [scripted, traced, scripted_in_part])
def test_a_model_of_torch_jit_trains_as_the_plain_one(how, measure):
    runs = []
    for model in (make_normed(), how(make_normed())):
        for name, fresh in make_normed().named_buffers():
            dict(model.named_buffers())[name].copy_(fresh)  # tracing has run the model
        optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3), measure=measure, every=2)
        losses = [float(optimizer.minimize(lambda m=model: F.cross_entropy(m(X), Y))) for _ in range(8)]
        runs.append((losses, optimizer.last_estimate.s, dict(model.named_buffers())["1.running_var"]))
    # Fused kernels of torch.jit sum in another order.
    assert runs[1][0] == pytest.approx(runs[0][0], rel=1e-4)
    assert runs[1][1] == pytest.approx(runs[0][1], rel=0.02)
    torch.testing.assert_close(runs[1][2], runs[0][2], rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("how", [scripted, scripted_in_part])
def test_the_statistics_of_a_scripted_model_come_back_after_garbage(how):
    model = how(make_normed())
    optimizer = train(model, num_steps=5, blow_up_at=None)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    optimizer.minimize(lambda: float("nan") * F.cross_entropy(model(X * float("nan")), Y))
    assert optimizer.num_skipped == 1
    for name, buffer in model.named_buffers():
        if "num_batches" not in name:
            assert torch.isfinite(buffer).all()
            torch.testing.assert_close(buffer, before[name], rtol=0.2, atol=0.2)  # of one of the last ten steps


# --- memory that is used twice


class Shared(nn.Module):
    """Buffers that are views of one another, and one that is a view of the weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(6, 3)
        self.register_buffer("whole", torch.zeros(6))
        self.register_buffer("tail", self.whole[3:])
        self.register_buffer("mirror", self.linear.weight.detach()[0])

    def forward(self, x: Tensor) -> Tensor:
        out = self.linear(x)
        self.tail.add_(out.detach().mean(0))
        return out + self.whole[3:] + self.mirror.square().sum()


@pytest.mark.parametrize("way", ["minimize", "probe"])
def test_buffers_that_share_memory_share_it_in_a_probe_too(way):
    model = Shared()
    optimizer = DCAO(optim.SGD(model.parameters(), lr=1e-3), every=1)
    for _ in range(4):
        expected = model.tail + F.linear(X, model.linear.weight, model.linear.bias).mean(0).detach()
        if way == "minimize":
            optimizer.minimize(lambda: model(X).square().mean())
        else:
            optimizer.probe(lambda: model(X).square().mean())
            optimizer.zero_grad()
            model(X).square().mean().backward()
            optimizer.step()
        assert optimizer.last_estimate.reason == ""  # two evaluations at one point were the same
        torch.testing.assert_close(model.tail, expected, rtol=1e-6, atol=1e-6)
        assert model.tail.data_ptr() == model.whole[3:].data_ptr()
        assert torch.equal(model.mirror, model.linear.weight[0])
