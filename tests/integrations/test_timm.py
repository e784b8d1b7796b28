"""timm's param groups keep their ratios, its schedulers give the shape, and its optimizers are known or refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

import dcao
from dcao import DCAO, policies
from dcao.updates.registry import optimizer_model
from helpers import timm_parts
from helpers.frozen_optimizer import displacement_in_the_long_run, step_from_zero_averages
from helpers.optimizer_cases import OptimizerCase

timm_optim, timm_scheduler = timm_parts.load()

NUM_STEPS = 60


class Network(nn.Module):
    """Residual blocks with norms, which says to timm what its layers are, as timm's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 16), nn.Linear(16, 3)
        self.blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16)) for _ in range(3)])

    def group_matcher(self, coarse: bool = False) -> dict:
        return {"stem": "^stem", "blocks": [(r"^blocks\.(\d+)", None)]}

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.head(x)


class Problem:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model, self.x = Network(), torch.randn(64, 8)
        self.first_loss = float(self.loss().detach())

    def loss(self) -> Tensor:
        return nn.functional.cross_entropy(self.model(self.x), self.x[:, :3].argmax(1))

    def train(self, optimizer: DCAO, num_steps: int = NUM_STEPS, after_step=lambda step: None) -> float:
        for step in range(num_steps):
            loss = optimizer.minimize(self.loss)
            after_step(step)
        return float(loss)


# --- param groups


def test_norms_and_biases_without_decay_are_groups_of_one_lr():
    problem = Problem()
    groups = timm_optim.param_groups_weight_decay(problem.model, weight_decay=0.05)
    assert [group["weight_decay"] for group in groups] == [0.0, 0.05]
    optimizer = DCAO(torch.optim.AdamW(groups, lr=1e-3))
    assert problem.train(optimizer) < 0.5 * problem.first_loss
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.05]
    first, second = optimizer.effective_lrs
    assert first == second != 1e-3


def layer_groups(model: nn.Module, lr: float) -> list[dict]:
    """timm's groups, with an lr each, as timm's schedulers and training scripts make it of ``lr_scale``."""
    groups = timm_optim.param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5)
    return [{**group, "lr": lr * group["lr_scale"]} for group in groups]


def ratios(lrs: list[float]) -> list[float]:
    return [lr / max(lrs) for lr in lrs]


@pytest.mark.parametrize("lr", [1e-7, 1e-3])
def test_the_ratios_of_a_layer_wise_lr_are_kept(lr):
    problem = Problem()
    optimizer = DCAO(torch.optim.AdamW(layer_groups(problem.model, lr)))
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    assert sorted(set(scales)) == [2.0**-4, 2.0**-3, 2.0**-2, 2.0**-1, 1.0]  # the stem, three blocks, the head
    assert problem.train(optimizer) < 0.5 * problem.first_loss
    # Each lr is multiplied by the same numbers, one rounding a step.
    assert ratios(optimizer.effective_lrs) == pytest.approx(scales, rel=NUM_STEPS * 2**-53)
    assert max(optimizer.effective_lrs) > 1e-3


def test_a_scheduler_of_timm_gives_the_shape_and_keeps_the_ratios():
    problem = Problem()
    optimizer = DCAO(torch.optim.AdamW(timm_optim.param_groups_layer_decay(problem.model, layer_decay=0.5), lr=1e-3))
    scheduler = timm_scheduler.CosineLRScheduler(
        optimizer, t_initial=NUM_STEPS, warmup_t=10, warmup_lr_init=1e-6, lr_min=1e-6, t_in_epochs=False
    )
    scales, shares = [group["lr_scale"] for group in optimizer.param_groups], []

    def after_step(step: int) -> None:
        scheduler.step_update(step + 1)
        nominal, trains = [group["lr"] for group in optimizer.param_groups], optimizer.effective_lrs
        assert ratios(nominal) == pytest.approx(scales)
        assert ratios(trains) == pytest.approx(scales)
        shares.append(max(trains))

    assert problem.train(optimizer, after_step=after_step) < problem.first_loss
    assert shares[-1] < 0.01 * max(shares)  # the end of the cosine, at a thousandth


# --- optimizers

SGDW, ADAMW = timm_optim.SGDW, timm_optim.AdamWLegacy
KNOWN = [
    OptimizerCase("sgdw", SGDW, 0.05),
    OptimizerCase("sgdw-decay", partial(SGDW, momentum=0.9, weight_decay=0.05), 0.05),
    OptimizerCase("sgdw-nesterov", partial(SGDW, momentum=0.7, nesterov=True, weight_decay=0.05), 0.05),
    OptimizerCase("sgdw-dampening", partial(SGDW, momentum=0.8, dampening=0.5), 0.05),
    OptimizerCase("adamw", partial(ADAMW, weight_decay=0.05), 3e-3),
    OptimizerCase("adamw-amsgrad", partial(ADAMW, amsgrad=True), 3e-3),
    OptimizerCase("nadamw", partial(timm_optim.NAdamW, weight_decay=0.05), 3e-3),
    OptimizerCase("nadam", partial(timm_optim.NAdamLegacy, weight_decay=0.05), 3e-3),
    OptimizerCase("nadam-warmup", partial(timm_optim.NAdamLegacy, schedule_decay=5.0), 3e-3),
]
OVER_KNOWN = pytest.mark.parametrize("case", KNOWN, ids=lambda case: case.name)
CLOSE = partial(pytest.approx, rel=1e-9, abs=0.0)  # float64, and powers of the decays


@OVER_KNOWN
def test_a_real_step_from_zero_averages_is_what_the_record_says(case):
    stepped, expected = step_from_zero_averages(case)
    assert stepped == CLOSE(expected)


@OVER_KNOWN
def test_a_constant_gradient_moves_the_weights_by_the_step_size_in_the_long_run(case):
    moved, expected = displacement_in_the_long_run(case)
    assert moved == CLOSE(expected)


TORCHS = [
    ("SGDW", partial(timm_optim.SGDW, lr=0.1, momentum=0.9), partial(torch.optim.SGD, lr=0.1, momentum=0.9)),
    ("AdamWLegacy", partial(timm_optim.AdamWLegacy, lr=1e-3), partial(torch.optim.AdamW, lr=1e-3)),
    (
        "NAdamLegacy",
        partial(timm_optim.NAdamLegacy, lr=1e-3),
        partial(torch.optim.NAdam, lr=1e-3, momentum_decay=4e-3),
    ),
]


@pytest.mark.parametrize(("name", "make", "make_torchs"), TORCHS, ids=[row[0] for row in TORCHS])
def test_a_copy_of_an_optimizer_of_torch_leads_to_the_run_of_that_one(name, make, make_torchs):
    lrs, losses, thresholds = [], [], []
    for each in (make, make_torchs):
        problem = Problem()
        optimizer = DCAO(each(problem.model.parameters()))
        thresholds.append(dcao.stability_threshold(optimizer.base))
        losses.append(problem.train(optimizer))
        lrs.append(optimizer.effective_lrs)
    assert thresholds[0] == pytest.approx(thresholds[1], rel=1e-9)
    # The same update in another order of operations: roundings of 6e-8 grow over 60 steps.
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert lrs[0] == pytest.approx(lrs[1], rel=1e-2)


def test_a_schedule_of_momentum_leaves_the_record_alone():
    problem = Problem()
    rule = policies.Compose(policies.LearningRate(1.0), policies.Momentum(0.1))
    optimizer = DCAO(timm_optim.AdamWLegacy(problem.model.parameters(), lr=1e-3), policy=rule, every=2)
    assert problem.train(optimizer) < problem.first_loss
    assert optimizer.param_groups[0]["betas"][0] != 0.9


@pytest.mark.parametrize("option", [{"caution": True}, {"clipping_threshold": 1.0}, {"corrected_weight_decay": True}])
def test_an_option_that_makes_another_update_is_refused_by_name(option):
    base = timm_optim.AdamWLegacy([nn.Parameter(torch.ones(2))], **option)
    ((name, value),) = option.items()
    with pytest.raises(TypeError, match=f"{name}={value} makes another update of it"):
        DCAO(base)
    DCAO(base, policy=policies.Fixed())


@pytest.mark.parametrize("name", ["RMSpropTF", "Lamb", "Lion", "Adan", "RAdamLegacy", "Muon"])
def test_other_optimizers_of_timm_are_refused_with_a_way_out(name):
    base = getattr(timm_optim, name)([nn.Parameter(torch.ones(2, 2))], lr=1e-3)
    with pytest.raises(TypeError, match=rf"{name} has no stability threshold.*dcao.register_optimizer"):
        optimizer_model(base)
    DCAO(base, policy=policies.Fixed())


def test_timms_factory_makes_torchs_own_optimizers_where_there_are_both():
    names = {"adamw": "AdamW", "sgd": "SGD", "nadam": "NAdam", "rmsprop": "RMSprop"}
    for name, kind in names.items():
        problem = Problem()
        base = timm_optim.create_optimizer_v2(problem.model, opt=name, lr=1e-3, weight_decay=0.05, layer_decay=0.5)
        assert type(base) is getattr(torch.optim, kind)
        optimizer = DCAO(base)
        assert problem.train(optimizer, 20) < problem.first_loss
        assert ratios(optimizer.effective_lrs) == pytest.approx(ratios([g["lr"] for g in base.param_groups]))
