"""The Trainer of Lightning trains with DCAO as a loop of one's own does, and is not disturbed by probes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

lightning = pytest.importorskip("lightning")

import torchmetrics  # noqa: E402
from lightning.pytorch import LightningModule, Trainer  # noqa: E402
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint  # noqa: E402
from lightning.pytorch.loggers.logger import Logger  # noqa: E402
from lightning.pytorch.plugins import MixedPrecision  # noqa: E402

from dcao import DCAO, MemoryRecorder, policies  # noqa: E402
from dcao.integrations.lightning import DCAOCallback  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*training_step. returned .None.*"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*compute. method of metric.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]

BATCH, BATCHES = 8, 30


def network(dropout: float = 0.1) -> nn.Sequential:
    """With dropout, so that a probe that drew from the random streams would show."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


def examples(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    x = torch.randn(BATCH * BATCHES, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    return x, x.sum(dim=1, keepdim=True).sin()


def loader() -> DataLoader:
    return DataLoader(TensorDataset(*examples()), batch_size=BATCH)


def mse(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(net(batch[0]).float(), batch[1].float())


class Regression(LightningModule):
    """Logs in all ways that count, and keeps what a loop of one's own has to begin with."""

    def __init__(
        self, *, bare: bool = False, scheduled: bool = False, lr: float = 1e-3, dropout: float = 0.1, **options: Any
    ) -> None:
        super().__init__()
        self.net, self.metric = network(dropout), torchmetrics.MeanMetric()
        self.bare, self.scheduled, self.lr, self.options = bare, scheduled, lr, options
        self.lrs: list[float] = []
        self.rng_state: Tensor | None = None
        self.recorder = MemoryRecorder()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.rng_state = torch.get_rng_state() if self.rng_state is None else self.rng_state

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = mse(self.net, batch)
        self.metric(loss.detach())
        self.log("metric", self.metric, on_step=True, on_epoch=True)
        self.log("mean", loss, on_step=False, on_epoch=True)
        self.log("count", torch.ones(()), on_step=False, on_epoch=True, reduce_fx="sum")
        return loss

    def configure_optimizers(self) -> Any:
        base = torch.optim.AdamW(self.parameters(), lr=self.lr)
        base.register_step_post_hook(lambda optimizer, *_: self.lrs.append(float(optimizer.param_groups[0]["lr"])))
        self.dcao = optimizer = base if self.bare else DCAO(base, recorder=self.recorder, **self.options)
        if not self.scheduled:
            return optimizer
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=BATCHES)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def fit(module: LightningModule, *, callback: bool = True, callbacks: tuple = (), **settings: Any) -> Trainer:
    defaults = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [*callbacks, *([DCAOCallback()] if callback else [])],
    }
    checkpoint = settings.pop("ckpt_path", None)
    trainer = Trainer(**(defaults | settings))
    trainer.fit(module, loader(), ckpt_path=checkpoint)
    return trainer


@dataclass(frozen=True, kw_only=True)
class Case:
    """Settings of the Trainer, and the same in plain torch."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    accumulation: int = 1
    clip: Any = None
    autocast: torch.dtype | None = None
    dtype: torch.dtype = torch.float32
    loss_scale: float | None = None
    scheduled: bool = False
    reason: str = ""


def clip_norm(params: Any) -> None:
    torch.nn.utils.clip_grad_norm_(params, 0.1)


def clip_value(params: Any) -> None:
    torch.nn.utils.clip_grad_value_(params, 0.01)


def scaled(scale: float) -> MixedPrecision:
    """What ``precision="16-mixed"`` is on a GPU; on a CPU the Trainer would take bfloat16 instead."""
    return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=scale))


CASES = [
    Case(name="plain"),
    Case(name="accumulation", settings={"accumulate_grad_batches": 4}, accumulation=4),
    Case(name="clip", settings={"gradient_clip_val": 0.1}, clip=clip_norm, reason="the gradient was clipped to"),
    Case(
        name="clip by value",
        settings={"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        clip=clip_value,
        reason="entries were clipped one by one",
    ),
    Case(
        name="accumulation and clip",
        settings={"accumulate_grad_batches": 3, "gradient_clip_val": 0.1},
        accumulation=3,
        clip=clip_norm,
        reason="the gradient was clipped to",
    ),
    Case(name="scheduler", scheduled=True),
    Case(
        name="bf16-mixed",
        settings={"precision": "bf16-mixed"},
        autocast=torch.bfloat16,
        reason="computed in torch.bfloat16",
    ),
    Case(
        name="bf16-true",
        settings={"precision": "bf16-true"},
        dtype=torch.bfloat16,
        reason="half precision is evaluated in float32",
    ),
    Case(name="64-true", settings={"precision": "64-true"}, dtype=torch.float64),
    Case(
        name="16-mixed",
        settings={"plugins": [scaled(1024.0)]},
        autocast=torch.float16,
        loss_scale=1024.0,
        reason="computed in torch.float16",
    ),
]


def own_loop(module: Regression, case: Case) -> tuple[nn.Module, list[float]]:
    """The same training in plain torch: a closure that accumulates, unscales and clips."""
    net = network().to(case.dtype)
    x, y = (each.to(case.dtype) for each in examples())
    batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    optimizer = DCAO(torch.optim.AdamW(net.parameters(), lr=1e-3))
    scaler = torch.amp.GradScaler("cpu", init_scale=case.loss_scale or 1.0, enabled=case.loss_scale is not None)
    schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=BATCHES)] if case.scheduled else []
    lrs: list[float] = []
    optimizer.base.register_step_post_hook(lambda base, *_: lrs.append(float(base.param_groups[0]["lr"])))
    torch.set_rng_state(module.rng_state)
    for start in range(0, BATCHES, case.accumulation):
        parts = batches[start : start + case.accumulation]

        def closure(parts=parts):
            optimizer.zero_grad()
            total = torch.zeros(())
            for part in parts:
                with torch.autocast("cpu", dtype=case.autocast, enabled=case.autocast is not None):
                    loss = mse(net, part) / case.accumulation
                scaler.scale(loss).backward()
                total = total + loss
            if scaler.is_enabled():
                scaler.unscale_(optimizer)
            if case.clip is not None:
                case.clip(net.parameters())
            return total

        optimizer.step(closure)
        if scaler.is_enabled():
            scaler.update()
        for scheduler in schedulers:
            scheduler.step()
    return net, lrs


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_trainer_takes_the_steps_of_a_loop_of_ones_own(case):
    module = Regression(scheduled=case.scheduled)
    fit(module, **case.settings)
    expected, lrs = own_loop(module, case)
    assert len(module.lrs) == -(-BATCHES // case.accumulation)
    assert module.lrs == lrs
    assert torch.equal(weights(module.net), weights(expected))
    assert case.reason in module.recorder.records[-1].estimate.reason


def test_any_learning_rate_leads_to_the_same_run():
    found = []
    for lr in (1e-6, 10.0):
        module = Regression(lr=lr)
        fit(module)
        found.append((module.lrs, weights(module.net).tolist()))
    assert found[0] == found[1]


class Skipping(Regression):
    """Skips the first batch, at which a probe is due, and every fifth."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        return None if batch_idx % 5 == 0 else super().training_step(batch, batch_idx)


def test_a_training_step_that_returns_none_is_no_step_and_the_next_one_is_probed():
    module = Skipping()
    trainer = fit(module)
    assert [record.step for record in module.recorder.records][:2] == [1, 6]  # due at 0 and 5
    assert trainer.callback_metrics["count"] == BATCHES - BATCHES // 5
    assert "failed" not in " ".join(record.estimate.reason for record in module.recorder.records)


# --- what probes leave alone


class Hooked(Regression):
    """With hooks that count, and a validation in the middle."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.num_backward = self.num_steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": super().training_step(batch, batch_idx), "index": batch_idx}

    def on_after_backward(self) -> None:
        self.num_backward += 1
        self.log("backward", torch.ones(()), on_step=False, on_epoch=True, reduce_fx="sum")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.num_steps += 1
        self.log("steps", torch.ones(()), on_step=False, on_epoch=True, reduce_fx="sum")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("validation", mse(self.net, batch))

    def val_dataloader(self) -> DataLoader:
        return loader()


def test_hooks_of_the_module_are_counted_once():
    module = Hooked(every=2)
    trainer = fit(module, accumulate_grad_batches=2, val_check_interval=10)
    assert (module.num_backward, module.num_steps) == (BATCHES, BATCHES // 2)
    assert trainer.callback_metrics["backward"] == BATCHES
    assert trainer.callback_metrics["steps"] == BATCHES // 2
    assert len(module.recorder.records) >= 7


class Logged(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    name, version = "logged", 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


@pytest.mark.parametrize("accumulation", [1, 3])
def test_probes_leave_metrics_logs_counters_and_random_streams_alone(accumulation):
    found, cost = [], 0.0
    for bare in (True, False):
        module = Regression(bare=bare, **({} if bare else {"policy": policies.Fixed(), "every": 2}))
        logger = Logged()
        trainer = fit(
            module, callback=not bare, logger=logger, log_every_n_steps=1, accumulate_grad_batches=accumulation
        )
        zeroed = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.zero_grad
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        found.append((logger.rows, metrics, repr(zeroed), torch.get_rng_state().tolist(), weights(module).tolist()))
        cost = 0.0 if bare else module.dcao.probe_cost
    assert found[0] == found[1]
    assert found[0][1]["count"] == BATCHES
    assert cost >= BATCHES // accumulation // 2


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_learning_rate_monitor_logs_what_trains(scheduled):
    logger, monitor = Logged(), LearningRateMonitor()
    module = Regression(scheduled=scheduled)
    fit(module, callbacks=(monitor,), logger=logger, log_every_n_steps=1)
    rows = [(step, row["lr-DCAO"]) for step, row in logger.rows if "lr-DCAO" in row]
    assert list(dict.fromkeys(rows)) == list(enumerate(module.lrs))  # the first also as that of its epoch
    assert "on_train_batch_start" not in vars(monitor)  # after the training it is as it was


class Quasi(Regression):
    """Trains with LBFGS, which calls its closure as often as it likes."""

    def configure_optimizers(self) -> Any:
        base = torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)
        self.dcao = base if self.bare else DCAO(base, **self.options)
        return self.dcao


def test_an_optimizer_that_calls_its_closure_itself_is_left_alone():
    found = []
    for bare in (True, False):
        module = Quasi(bare=bare)
        trainer = fit(module, callback=not bare)
        found.append((weights(module.net).tolist(), float(trainer.callback_metrics["count"])))
    assert found[0] == found[1]


def test_the_package_pytorch_lightning_is_served_too():
    package = pytest.importorskip("pytorch_lightning")

    class Small(package.LightningModule):
        configure_optimizers, training_step = Regression.configure_optimizers, Regression.training_step

        def __init__(self) -> None:
            super().__init__()
            self.net, self.metric = network(), torchmetrics.MeanMetric()
            self.bare, self.scheduled, self.lr, self.lrs, self.recorder = False, True, 1e-3, [], MemoryRecorder()
            self.options: dict[str, Any] = {}

    logger, module = type("Logged", (Logged, package.loggers.logger.Logger), {})(), Small()
    trainer = package.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        callbacks=[package.callbacks.LearningRateMonitor(), DCAOCallback()],
        logger=logger,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader())
    assert trainer.callback_metrics["count"] == BATCHES
    rows = [(step, row["lr-DCAO"]) for step, row in logger.rows if "lr-DCAO" in row]
    assert list(dict.fromkeys(rows)) == list(enumerate(module.lrs))


def test_the_trainer_is_left_as_it_was():
    module = Regression()
    trainer = fit(module)
    assert "_make_closure" not in vars(trainer.fit_loop.epoch_loop.automatic_optimization)
    assert not module.dcao.coming.is_known


def test_without_the_callback_one_warning_names_it():
    with pytest.warns(UserWarning, match="counted in self.log.*Fix: .*DCAOCallback") as caught:
        fit(Regression(), callback=False)
    assert len([each for each in caught if "DCAOCallback" in str(each.message)]) == 1


# --- checkpoints


def test_a_run_that_is_resumed_from_a_checkpoint_goes_on_bit_for_bit(tmp_path):
    whole = Regression(scheduled=True, dropout=0.0)
    save = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, every_n_epochs=1)
    fit(whole, callbacks=(save,), enable_checkpointing=True, max_epochs=2)
    half = Regression(scheduled=True, dropout=0.0, lr=0.5)  # the lr of the checkpoint counts
    fit(half, callbacks=(save,), enable_checkpointing=True, max_epochs=2, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert half.lrs == whole.lrs[BATCHES:]
    assert torch.equal(weights(half.net), weights(whole.net))
