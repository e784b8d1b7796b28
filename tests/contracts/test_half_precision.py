"""Models in half precision are probed and trained without autocast, whatever is frozen, mixed or wrapped."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from dcao import DCAO, MemoryRecorder, policies
from helpers.contract_cases import (
    BATCHES,
    DCAO_WAYS,
    MEASURES,
    WHERE,
    Run,
    assert_same,
    make_model,
    options,
    seed_everything,
    snapshot,
    trainable,
    watching,
)

BF16, FP16 = torch.bfloat16, torch.float16


class HalfRun(Run):
    """Inputs in the dtype of the model's first parameter as it was made."""

    dtype = BF16

    def loss(self) -> Tensor:
        inputs, targets = BATCHES[self.num_done % len(BATCHES)]
        return F.cross_entropy(self.model(inputs.to(self.dtype)).float(), targets)


def in_half(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    return model.to(dtype)


def frozen_and_mixed(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The norm and the head in float32, the rest in half precision, its first layer frozen."""

    class Cast(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.to(self.inner.weight.dtype))

    layers = [Cast(layer) if hasattr(layer, "weight") else layer for layer in model]
    mixed = nn.Sequential(*layers).to(dtype)
    mixed[2].float()
    mixed[7].float()
    return mixed


BASES: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd-momentum": lambda params: optim.SGD(params, lr=0.05, momentum=0.9),
    "adamw": lambda params: optim.AdamW(params, lr=1e-2, eps=1e-4),  # the default eps of 1e-8 is 0 in float16
    "adamw-fused": lambda params: optim.AdamW(params, lr=1e-2, eps=1e-4, fused=True),
}


def half_run(base: str, dtype: torch.dtype, make=in_half, way: str = "step", **settings) -> Run:
    model = make(make_model(), dtype)
    optimizer = BASES[base](trainable(model))
    run = HalfRun(model, DCAO(optimizer, **options(**settings)) if settings else optimizer, way)
    run.dtype = dtype
    return run


def assert_trains_as_if_bare(base: str, dtype: torch.dtype, make=in_half, num_steps: int = 4, **settings) -> Run:
    way = settings.pop("way", "minimize")
    seed_everything()
    bare = half_run(base, dtype, make).advance(num_steps)
    expected = snapshot(bare)
    seed_everything()
    watched = half_run(base, dtype, make, way, **watching(**settings)).advance(num_steps)
    assert watched.losses == bare.losses
    assert all(map(math.isfinite, bare.losses))
    assert_same(snapshot(watched), expected, ignore=WHERE)  # random streams included
    return watched


@pytest.mark.parametrize("way", DCAO_WAYS)
@pytest.mark.parametrize("dtype", [BF16, FP16], ids=str)
@pytest.mark.parametrize("base", BASES)
def test_every_way_in_trains_as_if_bare_and_is_measured(base, dtype, way):
    watched = assert_trains_as_if_bare(base, dtype, way=way)
    assert watched.optimizer.last_estimate.s is not None
    assert "half precision is evaluated in float32" in watched.optimizer.last_estimate.reason


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("make", [in_half, frozen_and_mixed])
@pytest.mark.parametrize("hvp", ["auto", "central", "forward"])
def test_every_measure_and_product_trains_as_if_bare(hvp, make, measure):
    watched = assert_trains_as_if_bare("adamw", BF16, make, num_steps=3, measure=measure, hvp=hvp)
    assert watched.optimizer.last_estimate.s is not None


def test_exact_products_of_half_precision_are_refused_by_an_estimate_and_not_by_an_error():
    with pytest.warns(UserWarning, match='The first probe has failed: Unsupported.* Fix: set hvp="auto"'):
        watched = assert_trains_as_if_bare("adamw", BF16, num_steps=2, measure="hessian", hvp="exact")
    estimate = watched.optimizer.last_estimate
    assert estimate.trust == 0.0
    assert "double backward through torch.bfloat16 parameters keeps 2-3 digits at best" in estimate.reason


@pytest.mark.parametrize("base", BASES)
def test_a_model_that_cannot_be_lifted_trains_as_if_bare_and_is_measured(base):
    def needs_half(model: nn.Module, dtype: torch.dtype) -> nn.Module:
        def refuse(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if module.weight.dtype is not dtype:
                raise RuntimeError("a kernel for half precision alone")

        in_half(model, dtype)[1].register_forward_pre_hook(refuse)
        return model

    watched = assert_trains_as_if_bare(base, BF16, needs_half, spectrum_every=None)
    estimate = watched.optimizer.last_estimate
    assert estimate.s is not None
    assert estimate.trust == 0.9
    assert "RuntimeError: a kernel for half precision alone" in estimate.reason
    # The first probe checks that the loss repeats and tries float32 in vain; all others know, and difference the
    # gradient of the training step: one evaluation each.
    assert (estimate.cost, watched.optimizer.probe_cost) == (1.0, 6.0)
    again = copy.deepcopy(watched.optimizer.state_dict())
    assert again["dcao"]["loop"]["probe"]["why_not_lifted"].startswith("RuntimeError")


# --- the default policy


class LoRA(nn.Module):
    """Low-rank factors around a frozen layer; one of them starts at zero."""

    def __init__(self, layer: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / rank)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + (x.to(self.down.dtype) @ self.down.T @ self.up.T).to(x.dtype)


def frozen_backbone() -> nn.Module:
    backbone = nn.Sequential(nn.Linear(20, 64), nn.ReLU()).requires_grad_(False)
    return nn.Sequential(backbone, nn.Linear(64, 5)).bfloat16()


def lora() -> nn.Module:
    return nn.Sequential(LoRA(nn.Linear(20, 64)), nn.GELU(), LoRA(nn.Linear(64, 5))).bfloat16()


def lora_in_float32() -> nn.Module:
    model = lora()
    for p in trainable(model):
        p.data = p.data.float()
    return model


def whole() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 5)).bfloat16()


def trained_backbone_and_float32_head() -> nn.Module:
    class Head(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.to(self.weight.dtype))

    return nn.Sequential(nn.Sequential(nn.Linear(20, 64), nn.ReLU()).bfloat16(), Head(64, 5))


class Prompted(nn.Module):
    """A float32 prompt, which starts at zero, in front of a frozen half-precision network."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.zeros(20))
        self.network = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 5)).bfloat16().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + self.prompt.to(x.dtype))


class UnderAutocast(nn.Module):
    """Float32 parameters; autocast inside the model if its inputs are in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", BF16, enabled=x.dtype is BF16):
            return self.network(x.to(self.network[0].weight.dtype))


MODELS = [
    frozen_backbone,
    lora,
    lora_in_float32,
    whole,
    trained_backbone_and_float32_head,
    Prompted,
    UnderAutocast,
]


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 20, generator=generator)
    return inputs, (inputs @ torch.randn(20, 5, generator=generator)).argmax(1)


@pytest.mark.parametrize("make", MODELS)
def test_the_curvature_along_a_step_is_that_of_the_float64_twin(make):
    inputs, targets = data()
    torch.manual_seed(0)
    model = make()
    twin, found = copy.deepcopy(model).double(), []
    for each, x in ((model, inputs.bfloat16()), (twin, inputs.bfloat16().double())):
        base = optim.SGD(trainable(each), lr=0.1)
        optimizer = DCAO(base, policy=policies.Fixed(), measure="batch", every=1)

        def loss_fn(each=each, x=x) -> Tensor:
            outputs = each(x)
            return F.cross_entropy(outputs if outputs.dtype is torch.float64 else outputs.float(), targets)

        optimizer.minimize(loss_fn)
        found.append(optimizer.last_estimate.s)
    # Along the step nine in ten are within 10 % in half precision (benchmarks/half_precision.py); the longer step of
    # float32 parameters meets other kinks of a ReLU.
    assert found[0] == pytest.approx(found[1], rel=0.2)


@pytest.mark.parametrize("make", MODELS)
def test_fine_tuning_rises_from_any_lr_as_its_float32_twin_does(make):
    inputs, targets = data()
    losses, lrs = {}, {}
    for dtype in (torch.float32, BF16):
        torch.manual_seed(0)
        model = make()
        x = inputs.to(dtype)
        if dtype is torch.float32:
            model.float()
        optimizer = DCAO(optim.AdamW(trainable(model), lr=1e-7))
        # As far up as 60 steps from a first one of l = 0.003: 12 of 10 % each make a third of 0.01. Further on losses
        # are 1e-5, and a hundredth of a margin is a tenth of the loss.
        for _ in range(48):
            loss = optimizer.minimize(lambda model=model, x=x: F.cross_entropy(model(x).float(), targets))
        losses[dtype], lrs[dtype] = float(loss), optimizer.param_groups[0]["lr"]
        assert optimizer.num_skipped == 0
    # Weights of 8 bits lose part of each step, and a probe along them is 20 % off at worst (float32 adapters).
    assert losses[BF16] == pytest.approx(losses[torch.float32], rel=0.1)
    assert lrs[BF16] == pytest.approx(lrs[torch.float32], rel=0.5)
    assert lrs[BF16] > 1e-4


def test_a_float16_network_trains_from_a_loss_scaled_by_hand():
    inputs, targets = data()
    torch.manual_seed(0)
    model = whole().half()
    recorder = MemoryRecorder()
    optimizer = DCAO(optim.SGD(model.parameters(), lr=1e-7, momentum=0.9), recorder=recorder)
    losses = [
        float(optimizer.minimize(lambda: 128.0 * F.cross_entropy(model(inputs.half()).float(), targets))) / 128.0
        for _ in range(60)
    ]
    assert losses[-1] < 0.5 * losses[0]
    assert all(record.estimate.s is not None for record in recorder.records if record.estimate is not None)
