"""skorch's nets train with DCAO as they do with torch's optimizers: its closure is probed, and its history is right."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from dcao import DCAO, is_probing, policies

skorch = pytest.importorskip("skorch")

from sklearn.model_selection import cross_val_score  # noqa: E402
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler  # noqa: E402

BATCH, EPOCHS = 32, 4


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    inputs = np.random.default_rng(0).normal(size=(240, 8)).astype(np.float32)
    return inputs, inputs[:, :3].argmax(1).astype(np.int64)


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 3))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def bare(params, **settings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, **settings)


def with_dcao(params, *, policy=None, every=None, **settings) -> DCAO:
    return DCAO(torch.optim.AdamW(params, **settings), policy=policy, every=every)


watched = functools.partial(with_dcao, policy=policies.Fixed(), every=1)


class CountingCallback(Callback):
    """Counts gradients, which skorch computes inside of the closure, and so in probes too."""

    def __init__(self) -> None:
        self.count = self.count_of_probes = 0

    def on_grad_computed(self, net, named_parameters, **kwargs) -> None:
        self.count += not is_probing()
        self.count_of_probes += is_probing()


def fit(data, optimizer, *, callbacks=(), **settings) -> skorch.NeuralNetClassifier:
    torch.manual_seed(1)
    net = skorch.NeuralNetClassifier(
        Module,
        criterion=nn.CrossEntropyLoss,
        optimizer=optimizer,
        max_epochs=EPOCHS,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        callbacks=list(callbacks),
        verbose=0,
        **settings,
    )
    return net.fit(*data)


def weights(net) -> list[torch.Tensor]:
    return list(net.module_.state_dict().values())


@pytest.mark.parametrize("clips", [False, True], ids=["", "clipped"])
def test_a_net_that_is_probed_at_every_step_trains_as_with_the_bare_optimizer(data, clips):
    nets, counts = [], []
    for optimizer in (bare, watched):
        counts.append(CountingCallback())
        callbacks = [*counts[-1:], *([GradientNormClipping(0.1)] if clips else [])]
        nets.append(fit(data, optimizer, lr=1e-3, callbacks=callbacks))
    for name in ("train_loss", "valid_loss", "valid_acc"):
        assert nets[1].history[:, name] == nets[0].history[:, name]
    assert all(torch.equal(one, other) for one, other in zip(*map(weights, nets), strict=True))
    num_batches = sum(nets[0].history[:, "train_batch_count"])
    assert nets[1].optimizer_.num_steps == num_batches
    assert counts[1].count == counts[0].count == num_batches
    assert counts[1].count_of_probes > 0
    estimate = nets[1].optimizer_.last_estimate
    assert estimate.s is not None
    assert ("clipped" in estimate.reason) == clips


def test_every_lr_of_a_net_leads_to_the_same_run(data):
    nets = [fit(data, with_dcao, lr=lr) for lr in (1e-7, 1.0)]
    assert nets[0].history[:, "train_loss"] == nets[1].history[:, "train_loss"]
    assert nets[0].optimizer_.effective_lrs == nets[1].optimizer_.effective_lrs
    assert nets[0].history[-1]["train_loss"] < 0.5 * nets[0].history[0]["train_loss"]


def test_a_scheduler_of_skorch_gives_the_shape_and_settings_of_the_optimizer_arrive(data):
    scheduler = LRScheduler(policy=torch.optim.lr_scheduler.CosineAnnealingLR, T_max=24, step_every="batch")
    groups = [("layers.0.*", {"lr": 1e-4})]
    settings = {"optimizer__weight_decay": 0.1, "optimizer__param_groups": groups}
    net = fit(data, with_dcao, lr=1e-3, callbacks=[scheduler], **settings)
    assert sum(net.history[:, "train_batch_count"]) == 24
    assert net.optimizer_.effective_lrs == pytest.approx([0.0, 0.0], abs=1e-12)  # the end of the cosine
    assert [group["weight_decay"] for group in net.optimizer_.param_groups] == [0.1, 0.1]
    assert [group["initial_lr"] for group in net.optimizer_.param_groups] == [1e-4, 1e-3]


def test_a_net_can_be_pickled_saved_trained_further_and_cross_validated(data, tmp_path):
    net = fit(data, with_dcao, lr=1e-3)
    files = {"f_params": tmp_path / "params.pt", "f_optimizer": tmp_path / "optimizer.pt"}
    net.save_params(**files)
    twin = pickle.loads(pickle.dumps(net))
    other = fit(data, with_dcao, lr=1.0)
    other.load_params(**files)
    for each in (net, twin, other):
        torch.manual_seed(2)
        each.partial_fit(*data)
        assert each.optimizer_.num_steps == 2 * EPOCHS * 6
        assert all(torch.equal(one, own) for one, own in zip(weights(net), weights(each), strict=True))
    scores = cross_val_score(net, *data, cv=2)
    assert scores.min() > 0.5  # chance is a third
