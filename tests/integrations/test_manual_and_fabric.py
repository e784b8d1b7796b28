"""Lightning's manual optimization and Fabric: DCAO's ways to take a step go through their optimizer wrappers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("lightning")

from lightning.fabric import Fabric, strategies
from lightning.fabric.plugins import MixedPrecision
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision as TrainerPrecision
from lightning.pytorch.strategies import DeepSpeedStrategy

from dcao import DCAO, MemoryRecorder
from dcao.integrations.fabric import setup, setup_optimizers
from dcao.integrations.lightning import DCAOCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),
]

BATCH, BATCHES, CLIP = 8, 24, 0.1
WAYS = ("probe_if_due", "closure", "minimize")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))


def examples() -> tuple[Tensor, Tensor]:
    x = torch.randn(BATCH * BATCHES, 4, generator=torch.Generator().manual_seed(0))
    return x, x.sum(dim=1, keepdim=True).sin()


def wrapped(net: nn.Module) -> tuple[DCAO, list[float]]:
    base, lrs = torch.optim.AdamW(net.parameters(), lr=1e-3), list[float]()
    base.register_step_post_hook(lambda optimizer, *_: lrs.append(float(optimizer.param_groups[0]["lr"])))
    return DCAO(base, recorder=MemoryRecorder()), lrs


def take(way: str, optimizer: Any, loss_fn: Any, backward: Any, params: Any) -> None:
    """One step, clipped."""
    if way == "minimize":
        optimizer.minimize(loss_fn, clip_norm=CLIP)
    elif way == "probe_if_due":
        optimizer.probe_if_due(loss_fn)
        optimizer.zero_grad()
        backward(loss_fn())
        torch.nn.utils.clip_grad_norm_(params, CLIP)
        optimizer.step()
    else:

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_fn()
            backward(loss)
            torch.nn.utils.clip_grad_norm_(params, CLIP)
            return loss

        optimizer.step(closure)


def own_loop(way: str, autocast: torch.dtype | None = None) -> Any:
    net = network()
    optimizer, lrs = wrapped(net)
    torch.manual_seed(1)
    for x, y in zip(*(each.split(BATCH) for each in examples()), strict=True):

        def loss_fn(x=x, y=y):
            with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
                outputs = net(x)
            return F.mse_loss(outputs.float(), y)

        take(way, optimizer, loss_fn, torch.Tensor.backward, list(net.parameters()))
    return SimpleNamespace(net=net, optimizer=optimizer, lrs=lrs)


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def assert_same(net: nn.Module, optimizer: DCAO, lrs: list[float], expected: Any) -> None:
    assert lrs == expected.lrs
    assert len(lrs) == BATCHES
    assert torch.equal(weights(net), weights(expected.net))
    records, others = optimizer.loop.recording.recorder.records, expected.optimizer.loop.recording.recorder.records
    assert [each.estimate for each in records] == [each.estimate for each in others]


# --- Lightning's manual optimization


class Manual(LightningModule):
    """Takes its steps itself; its loss logs."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net, self.way = network(), way

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            torch.manual_seed(1)

    def loss(self, batch: Any) -> Tensor:
        loss = F.mse_loss(self.net(batch[0]), batch[1])
        self.log("count", torch.ones(()), on_step=False, on_epoch=True, reduce_fx="sum")
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        params = list(self.net.parameters())
        take(self.way, optimizer, lambda: self.loss(batch), self.manual_backward, params)

    def configure_optimizers(self) -> Any:
        self.dcao, self.lrs = wrapped(self.net)
        return self.dcao


def fit(module: LightningModule, **settings: Any) -> Trainer:
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[DCAOCallback()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module, DataLoader(TensorDataset(*examples()), batch_size=BATCH))
    return trainer


@pytest.mark.parametrize("way", WAYS)
def test_manual_optimization_takes_the_steps_of_a_loop_of_ones_own(way):
    module = Manual(way)
    trainer = fit(module)
    assert_same(module.net, module.dcao, module.lrs, own_loop(way))
    assert trainer.global_step == BATCHES  # as Lightning counts the steps that go through its wrapper
    assert trainer.callback_metrics["count"] == BATCHES  # and not what probes evaluate again


class Bare(Manual):
    """Gives a probe nothing to measure."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(self.loss(batch))
        optimizer.step()


def test_a_manual_step_with_nothing_to_probe_says_what_to_call():
    with pytest.raises(ValueError, match=r"nothing to probe: call optimizer.minimize\(loss_fn\), .*probe_if_due"):
        fit(Bare(""))


def scaler_plugin() -> Any:
    """What ``precision="16-mixed"`` is on a GPU."""
    return TrainerPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))


@pytest.mark.parametrize("way", ["probe_if_due", "closure"])
def test_manual_optimization_goes_with_a_grad_scaler(way):
    module = Manual(way)
    trainer = fit(module, plugins=[scaler_plugin()])
    assert module.dcao.num_steps == BATCHES
    assert trainer.callback_metrics["count"] == BATCHES
    records = module.dcao.loop.recording.recorder.records
    assert len(records) >= 5
    assert "failed" not in " ".join(record.estimate.reason for record in records)
    assert "optimizer_step" not in vars(trainer.precision_plugin)  # after the training it is as it was


def test_minimize_with_a_grad_scaler_in_manual_optimization_is_refused():
    with pytest.raises(AssertionError, match="unscale_ but _scale is None"):
        fit(Manual("minimize"), plugins=[scaler_plugin()])


class Growing(Manual):
    """Adds its second half in mid-run, through the wrapper."""

    def configure_optimizers(self) -> Any:
        self.dcao, self.lrs = wrapped(self.net[:2])
        return self.dcao

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 10:
            self.optimizers().add_param_group({"params": list(self.net[3].parameters())})


def test_a_group_that_is_added_through_the_wrapper_trains():
    module = Growing("minimize")
    before = weights(module.net[3])
    fit(module)
    assert len(module.dcao.param_groups) == 2
    assert not torch.equal(weights(module.net[3]), before)


class Two(Manual):
    """Two networks that are trained in turns, each by a DCAO of its own."""

    def __init__(self) -> None:
        super().__init__("minimize")
        self.other = network()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        first, second = self.optimizers()
        first.minimize(lambda: F.mse_loss(self.net(x), y))
        second.minimize(lambda: F.mse_loss(self.other(x), self.net(x).detach()))

    def configure_optimizers(self) -> Any:
        (self.dcao, self.lrs), (self.second, self.others) = wrapped(self.net), wrapped(self.other)
        return [self.dcao, self.second]


def test_two_optimizers_are_probed_each_on_its_own_loss():
    module = Two()
    trainer = fit(module)
    assert trainer.global_step == 2 * BATCHES
    assert (module.dcao.num_steps, module.second.num_steps) == (BATCHES, BATCHES)
    assert min(module.dcao.probe_cost, module.second.probe_cost) > 0.0
    assert module.lrs != module.others


# --- Fabric


def set_up(**settings: Any) -> Any:
    """A model, its DCAO and the lrs that train, with dropout or without."""
    fabric = Fabric(accelerator="cpu", devices=1, **settings)
    plain = network()
    inner, lrs = wrapped(plain)
    net, optimizer = setup(fabric, plain, inner)
    return SimpleNamespace(fabric=fabric, plain=plain, inner=inner, lrs=lrs, net=net, optimizer=optimizer)


def run_fabric(way: str, it: Any, batches: Any) -> None:
    for x, y in batches:
        take(
            way,
            it.optimizer,
            lambda x=x, y=y: F.mse_loss(it.net(x), y),
            it.fabric.backward,
            list(it.plain.parameters()),
        )


def pairs() -> list[tuple[Tensor, Tensor]]:
    return list(zip(*(each.split(BATCH) for each in examples()), strict=True))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("way", WAYS)
def test_fabric_takes_the_steps_of_a_loop_of_ones_own(way, precision):
    it = set_up(precision=precision)
    torch.manual_seed(1)
    run_fabric(way, it, pairs())
    assert_same(it.plain, it.inner, it.lrs, own_loop(way, torch.bfloat16 if precision == "bf16-mixed" else None))
    assert it.optimizer.effective_lrs == it.inner.effective_lrs
    assert it.optimizer.last_estimate is it.inner.last_estimate


def by_backward(it: Any, accumulation: int) -> None:
    """As loops under Fabric accumulate: the loss is divided by hand."""
    for index, (x, y) in enumerate(pairs()):
        is_last = (index + 1) % accumulation == 0
        with it.fabric.no_backward_sync(it.net, enabled=not is_last):
            it.optimizer.backward(lambda: F.mse_loss(it.net(x), y) / accumulation)  # noqa: B023  # that is the point
        if is_last:
            it.fabric.clip_gradients(it.net, it.optimizer, max_norm=CLIP)
            it.optimizer.step()
            it.optimizer.zero_grad()


@pytest.mark.parametrize("accumulation", [1, 3])
def test_backward_of_losses_under_fabric_is_a_closure_over_all_micro_batches(accumulation):
    it = set_up()
    torch.manual_seed(1)
    by_backward(it, accumulation)
    net = network()
    optimizer, lrs = wrapped(net)
    torch.manual_seed(1)
    for start in range(0, BATCHES, accumulation):
        parts = pairs()[start : start + accumulation]

        def closure(parts=parts):
            optimizer.zero_grad()
            losses = []
            for x, y in parts:
                loss = F.mse_loss(net(x), y) / accumulation
                loss.backward()
                losses.append(loss)
            torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            return torch.stack(losses).sum()

        optimizer.step(closure)
    assert it.lrs == lrs
    assert len(lrs) == BATCHES // accumulation
    assert torch.equal(weights(it.plain), weights(net))


def test_backward_of_losses_goes_through_a_grad_scaler():
    precision = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    it = set_up(plugins=[precision])
    by_backward(it, 1)
    assert it.inner.num_steps == BATCHES
    reason = it.inner.last_estimate.reason
    assert "computed in torch.float16" in reason
    assert "clipped" in reason or "multiplied by" in reason
    with pytest.raises(ValueError, match="minimize does not scale the loss, which fp16 needs"):
        run_fabric("minimize", it, pairs())


def test_a_fabric_run_that_is_resumed_goes_on_bit_for_bit(tmp_path):
    whole, half = set_up(), set_up()
    whole.plain.eval()
    half.plain.eval()
    run_fabric("minimize", whole, pairs()[:12])
    whole.fabric.save(tmp_path / "state.ckpt", {"model": whole.net, "optimizer": whole.optimizer})
    run_fabric("minimize", whole, pairs()[12:])
    half.fabric.load(tmp_path / "state.ckpt", {"model": half.net, "optimizer": half.optimizer})
    run_fabric("minimize", half, pairs()[12:])
    assert half.inner.num_steps == BATCHES
    assert half.lrs == whole.lrs[12:]
    assert torch.equal(weights(half.plain), weights(whole.plain))


def test_without_our_setup_what_fabric_hands_on_works_in_full_precision():
    fabric = Fabric(accelerator="cpu", devices=1)
    plain = network()
    inner, lrs = wrapped(plain)
    net, optimizer = fabric.setup(plain, inner)
    torch.manual_seed(1)
    for x, y in pairs():
        optimizer.minimize(lambda x=x, y=y: F.mse_loss(net(x), y), clip_norm=CLIP)
    assert_same(plain, inner, lrs, own_loop("minimize"))


@pytest.mark.parametrize("engine", ["DeepSpeedStrategy", "XLAStrategy", "XLAFSDPStrategy"])
def test_a_strategy_of_fabric_that_steps_by_itself_is_refused(engine):
    kind = getattr(strategies, engine)
    fabric = SimpleNamespace(strategy=kind.__new__(kind))  # what it needs to be built is not here
    optimizer, _ = wrapped(network())
    for attempt in (lambda: setup(fabric, network(), optimizer), lambda: setup_optimizers(fabric, optimizer)):
        with pytest.raises(ValueError, match=f"DCAO must take the step itself, got Lightning with {engine}, "):
            attempt()


def test_a_strategy_of_the_trainer_that_steps_by_itself_is_refused():
    trainer = SimpleNamespace(strategy=DeepSpeedStrategy.__new__(DeepSpeedStrategy))
    with pytest.raises(ValueError, match="DCAO must take the step itself, got Lightning with DeepSpeedStrategy, "):
        DCAOCallback().setup(trainer, LightningModule(), "fit")
