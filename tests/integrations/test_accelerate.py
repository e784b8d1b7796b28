"""Loops under Accelerate train with DCAO as loops of one's own do."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("accelerate")

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType

from dcao import DCAO, policies
from dcao.integrations.accelerate import AcceleratedDCAO, prepare, refuse_engines

BATCH, BATCHES, CLIP = 8, 30, 0.1


@pytest.fixture(autouse=True)
def alone():
    """Accelerate keeps its settings for the process."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))


def examples() -> tuple[Tensor, Tensor]:
    x = torch.randn(BATCH * BATCHES, 4, generator=torch.Generator().manual_seed(0))
    return x, x.sum(dim=1, keepdim=True).sin()


def adamw(net: nn.Module) -> tuple[torch.optim.AdamW, list[float]]:
    base, lrs = torch.optim.AdamW(net.parameters(), lr=1e-3), list[float]()
    base.register_step_post_hook(lambda optimizer, *_: lrs.append(float(optimizer.param_groups[0]["lr"])))
    return base, lrs


def cosine(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=BATCHES)


class Setting:
    """A model, a DCAO, a loader and a scheduler, all prepared."""

    def __init__(self, *, accumulation: int = 1, loss_scale: float | None = None, wrap: Any = DCAO, **settings: Any):
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation, **settings)
        if loss_scale is not None:  # what mixed_precision="fp16" is on a GPU, for which it asks
            self.accelerator.state._mixed_precision, self.accelerator.native_amp = "fp16", True
            self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=loss_scale)
        self.net = network()
        self.base, self.lrs = adamw(self.net)
        optimizer = wrap(self.base)
        loader = DataLoader(TensorDataset(*examples()), batch_size=BATCH)
        self.net, self.optimizer, self.loader, self.scheduler = prepare(
            self.accelerator, self.net, optimizer, loader, cosine(optimizer)
        )

    def train(self, step: Any, batches: range = range(BATCHES)) -> Setting:
        """One step function for each batch; it is given the setting and the batch."""
        for index, batch in enumerate(self.loader):
            if index in batches:
                with self.accelerator.accumulate(self.net):
                    step(self, *batch)
                    self.scheduler.step()
        return self


def by_backward(it: Setting, x: Tensor, y: Tensor) -> None:
    it.optimizer.backward(lambda: F.mse_loss(it.net(x), y))
    finish(it)


def by_backward_with_arguments(it: Setting, x: Tensor, y: Tensor) -> None:
    it.optimizer.backward(lambda inputs, targets: F.mse_loss(it.net(inputs), targets), x, y)
    finish(it)


def by_probe_if_due(it: Setting, x: Tensor, y: Tensor) -> None:
    it.optimizer.probe_if_due(lambda: F.mse_loss(it.net(x), y))
    it.accelerator.backward(F.mse_loss(it.net(x), y))
    finish(it, clip=False)


def by_minimize(it: Setting, x: Tensor, y: Tensor) -> None:
    it.optimizer.minimize(lambda: F.mse_loss(it.net(x), y), clip_norm=CLIP)


def by_closure(it: Setting, x: Tensor, y: Tensor) -> None:
    def closure() -> Tensor:
        it.optimizer.zero_grad()
        loss = F.mse_loss(it.net(x), y)
        it.accelerator.backward(loss)
        it.accelerator.clip_grad_norm_(it.net.parameters(), CLIP)
        return loss

    it.optimizer.step(closure)


def finish(it: Setting, *, clip: bool = True) -> None:
    if clip and it.accelerator.sync_gradients:
        it.accelerator.clip_grad_norm_(it.net.parameters(), CLIP)
    it.optimizer.step()
    it.optimizer.zero_grad()


def own_loop(*, accumulation: int = 1, autocast: torch.dtype | None = None, loss_scale: float | None = None) -> Any:
    """The same training in plain torch: a closure that accumulates, unscales and clips."""
    net = network()
    base, lrs = adamw(net)
    optimizer = DCAO(base)
    scheduler, (x, y) = cosine(optimizer), examples()
    scaler = torch.amp.GradScaler("cpu", init_scale=loss_scale or 1.0, enabled=loss_scale is not None)
    torch.manual_seed(1)
    for inputs, targets in zip(x.split(BATCH * accumulation), y.split(BATCH * accumulation), strict=True):

        def closure(inputs=inputs, targets=targets):
            optimizer.zero_grad()
            total = torch.zeros(())
            for part in zip(inputs.split(BATCH), targets.split(BATCH), strict=True):
                with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
                    outputs = net(part[0])
                loss = F.mse_loss(outputs.float(), part[1]) / accumulation
                scaler.scale(loss).backward()
                total = total + loss
            if scaler.is_enabled():
                scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            return total

        optimizer.step(closure)
        if scaler.is_enabled():
            scaler.update()
        scheduler.step()
    return SimpleNamespace(net=net, optimizer=optimizer, lrs=lrs)


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def seeded(it: Setting, step: Any) -> Setting:
    """Train with the random numbers of :func:`own_loop`, of which the loader takes one before the first batch."""

    def first(setting: Setting, x: Tensor, y: Tensor) -> None:
        if not setting.lrs and setting.optimizer.coming.followed is None:
            torch.manual_seed(1)
        step(setting, x, y)

    return it.train(first)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A way to take a step, and the settings of Accelerate and of plain torch."""

    name: str
    step: Any
    settings: dict[str, Any]
    own: dict[str, Any]
    reason: str = "the gradient was clipped to"


CASES = [
    Case(name="backward", step=by_backward, settings={}, own={}),
    Case(name="minimize", step=by_minimize, settings={}, own={}),
    Case(name="closure", step=by_closure, settings={}, own={}),
    Case(name="accumulation", step=by_backward, settings={"accumulation": 3}, own={"accumulation": 3}),
    Case(name="arguments", step=by_backward_with_arguments, settings={"accumulation": 3}, own={"accumulation": 3}),
    Case(
        name="bf16",
        step=by_backward,
        settings={"mixed_precision": "bf16"},
        own={"autocast": torch.bfloat16},
        reason="computed in torch.bfloat16",
    ),
    Case(
        name="fp16",
        step=by_backward,
        settings={"loss_scale": 1024.0},
        own={"autocast": torch.float16, "loss_scale": 1024.0},
        reason="computed in torch.float16",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_loop_under_accelerate_takes_the_steps_of_a_loop_of_ones_own(case):
    it, expected = seeded(Setting(**case.settings), case.step), own_loop(**case.own)
    assert len(it.lrs) == BATCHES // case.own.get("accumulation", 1)
    assert it.lrs == expected.lrs
    assert torch.equal(weights(it.net), weights(expected.net))
    assert it.optimizer.probe_cost == expected.optimizer.probe_cost > 0.0
    assert case.reason in it.optimizer.last_estimate.reason
    assert it.optimizer.last_estimate.reason == expected.optimizer.last_estimate.reason


def test_probe_if_due_goes_through_the_wrapper():
    it = seeded(Setting(), by_probe_if_due)
    net = network()
    base, lrs = adamw(net)
    optimizer = DCAO(base)
    scheduler = cosine(optimizer)
    torch.manual_seed(1)
    for x, y in zip(*(each.split(BATCH) for each in examples()), strict=True):
        optimizer.probe_if_due(lambda x=x, y=y: F.mse_loss(net(x), y))
        optimizer.zero_grad()
        F.mse_loss(net(x), y).backward()
        optimizer.step()
        scheduler.step()
    assert it.lrs == lrs
    assert torch.equal(weights(it.net), weights(net))


def test_backward_returns_the_loss_itself_whatever_is_accumulated():
    it = Setting(accumulation=3)
    x, y = (each[:BATCH] for each in examples())
    with it.accelerator.accumulate(it.net):
        it.net.eval()
        expected = F.mse_loss(it.net(x), y)
        loss = it.optimizer.backward(lambda: F.mse_loss(it.net(x), y))
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=0.0)  # divided by 3 and times 3 again


@pytest.fixture
def three_batches() -> list[tuple[Tensor, Tensor]]:
    return list(zip(*(each.split(BATCH) for each in examples()), strict=True))[:3]


def test_a_batch_whose_gradient_is_thrown_away_is_no_part_of_the_next_step(three_batches):
    found = []
    for thrown_away in ([], three_batches[:2]):
        net = (it := Setting()).net.eval()

        def loss(x: Tensor, y: Tensor, net: nn.Module = net) -> Tensor:
            return F.mse_loss(net(x), y)

        for batch in thrown_away:
            it.optimizer.backward(loss, *batch)
            it.optimizer.zero_grad()
        it.optimizer.backward(loss, *three_batches[2])
        it.optimizer.step()
        found.append((it.optimizer.last_estimate, it.lrs, weights(it.net).tolist()))
    assert found[0] == found[1]


def test_probes_leave_the_weights_and_the_random_streams_alone():
    found = []
    for wrap in (lambda base: base, lambda base: DCAO(base, policy=policies.Fixed(), every=2)):
        it = Setting(accumulation=2, wrap=wrap)

        def step(it: Setting, x: Tensor, y: Tensor) -> None:
            if isinstance(it.optimizer, AcceleratedDCAO):
                it.optimizer.backward(lambda: F.mse_loss(it.net(x), y))
            else:
                it.accelerator.backward(F.mse_loss(it.net(x), y))
            finish(it)

        it.train(step)
        found.append((it.lrs, weights(it.net).tolist(), torch.get_rng_state().tolist()))
    assert found[0] == found[1]
    assert it.optimizer.probe_cost >= BATCHES / 4


def test_a_run_that_is_resumed_from_save_state_goes_on_bit_for_bit(tmp_path):
    whole = Setting().train(by_backward, range(12))
    whole.accelerator.save_state(tmp_path)
    resumed = Setting()
    resumed.accelerator.load_state(tmp_path)
    streams = torch.get_rng_state()
    for it in (whole, resumed):
        it.loader = list(zip(*(each.split(BATCH) for each in examples()), strict=True))
        torch.set_rng_state(streams)
        it.train(by_backward, range(12, BATCHES))
    assert resumed.optimizer.num_steps == whole.optimizer.num_steps == BATCHES
    assert torch.equal(weights(resumed.net), weights(whole.net))


# --- what is refused


def test_minimize_within_accumulate_is_refused():
    it = Setting(accumulation=2)
    with pytest.raises(ValueError, match="minimize must be a whole step, got one within"):
        it.train(by_minimize)


def test_minimize_in_fp16_is_refused():
    it = Setting(loss_scale=1024.0)
    with pytest.raises(ValueError, match="minimize does not scale the loss, which fp16 needs"):
        it.train(by_minimize)


def test_an_engine_that_steps_by_itself_is_refused():
    accelerator = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED)
    with pytest.raises(ValueError, match="DCAO must take the step itself, got Accelerate with DEEPSPEED"):
        refuse_engines(accelerator)
