"""``python -m helpers.sharded_lightning FOLDER``: the Trainer of Lightning and Fabric with ``fully_shard``."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import FSDPStrategy as FlatByFabric
from lightning.fabric.strategies import ModelParallelStrategy as ShardedByFabric
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from dcao.integrations.fabric import setup, setup_optimizers
from dcao.integrations.lightning import DCAOCallback
from helpers.trainer_ranks import TIMEOUT, Trainings, Watched, examples, message_of, network, train_on_two_and_on_one

GLOBAL_BATCH, STEPS, SAVED_AT = 8, 22, 11
"""A run is saved between two probes: one that is due at the very next step would be made one step later."""

CPU = torch.device("cpu")
GLOO = {"process_group_backend": "gloo", "timeout": TIMEOUT}
MESH = {"tensor_parallel_size": 1, **GLOO}
QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


def sharded(net: nn.Sequential, mesh: DeviceMesh) -> nn.Sequential:
    for layer in (net[2], net[3], net):
        fully_shard(layer, mesh=mesh["data_parallel"])
    return net


class Regression(LightningModule):
    """Automatic or manual optimization of a network that is in shards where there are several ranks."""

    def __init__(self, *, is_manual: bool = False, accumulation: int = 1, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails
        self.net, self.accumulation, self.automatic_optimization = network(), accumulation, not is_manual

    def configure_model(self) -> None:
        if self.trainer.world_size > 1:
            sharded(self.net, self.device_mesh)

    def train_dataloader(self) -> DataLoader:
        """Rank r of 2 gets the examples r, r + 2, ..., so that batches of 4 on each are together one of 8."""
        data, ranks = TensorDataset(*examples(GLOBAL_BATCH * SAVED_AT * self.accumulation)), self.trainer.world_size
        sampler = DistributedSampler(data, num_replicas=ranks, rank=self.global_rank, shuffle=False)
        return DataLoader(data, batch_size=GLOBAL_BATCH // ranks, sampler=sampler)

    def val_dataloader(self) -> DataLoader:
        """Looked at between training steps, without a backward pass that would give back what it gathers."""
        return DataLoader(TensorDataset(*examples(4)), batch_size=4)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.net(batch[0])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        if not self.automatic_optimization:
            self.optimizers().minimize(lambda: F.mse_loss(self.net(batch[0]), batch[1]), clip_norm=0.3)
            return None
        if self.fails:
            self.watched.fail(self.global_rank)
        loss = F.mse_loss(self.net(batch[0]), batch[1])
        self.log("mean loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def configure_optimizers(self) -> Any:
        self.watched = Watched(self.parameters())
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(self.watched.dcao, T_max=2 * SAVED_AT)
        if not self.automatic_optimization:
            return self.watched.dcao
        return {"optimizer": self.watched.dcao, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


def trainer_fit(
    ranks: int,
    folder: Path,
    *,
    is_manual: bool = False,
    accumulation: int = 1,
    resumes: bool = False,
    fails: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """One epoch, or two with a checkpoint between them."""
    module = Regression(is_manual=is_manual, accumulation=accumulation, fails=fails)
    saves = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    trainer = Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=ModelParallelStrategy(data_parallel_size=ranks, **MESH) if ranks > 1 else "auto",
        callbacks=[DCAOCallback(), *([saves] if settings.get("max_epochs") == 2 else [])],
        enable_checkpointing=settings.get("max_epochs") == 2,
        accumulate_grad_batches=accumulation,
        val_check_interval=5 * accumulation,
        **({"max_epochs": 1} | QUIET | settings),
    )
    trainer.fit(module, ckpt_path=folder / "epoch=0.ckpt" if resumes else None)
    return module.watched.result(module.net) | {"logged": [float(each) for each in trainer.callback_metrics.values()]}


def fabric_on(ranks: int) -> Fabric:
    strategy = ShardedByFabric(sharded, data_parallel_size=ranks, **MESH) if ranks > 1 else "auto"
    fabric = Fabric(accelerator="cpu", devices=ranks, strategy=strategy)
    fabric.launch()
    return fabric


def fabric_loop(ranks: int, folder: Path, *, resumes: bool = False, fails: bool = False) -> dict[str, Any]:
    """Accumulates two micro-batches a step, of which each rank has every second example."""
    fabric = fabric_on(ranks)
    net = fabric.setup_module(network())
    watched = Watched(net.parameters())
    optimizer = setup_optimizers(fabric, watched.dcao)
    state = {"model": net, "optimizer": optimizer}

    def loss_of(x: Tensor) -> Tensor:
        if fails:
            watched.fail(fabric.global_rank)
        return F.mse_loss(net(x), x.sum(dim=1, keepdim=True).sin()) / 2

    if resumes:
        fabric.load(folder / "fabric", state)
    inputs = examples(GLOBAL_BATCH * STEPS * 2)[0]
    for index, whole in enumerate(inputs.split(GLOBAL_BATCH)):
        if resumes and index < SAVED_AT * 2:
            continue
        own, is_last = whole[fabric.global_rank :: fabric.world_size], index % 2 == 1
        with fabric.no_backward_sync(net, enabled=not is_last):
            optimizer.backward(loss_of, own)
        if is_last:
            fabric.clip_gradients(net, optimizer, max_norm=0.3)
            optimizer.step()
            optimizer.zero_grad()
        if index + 1 == SAVED_AT * 2 and not resumes:
            fabric.save(folder / "fabric", state)
    return watched.result(net)


def refused(ranks: int, folder: Path) -> dict[str, str]:
    """An optimizer that was built before Fabric shards the module, and flat parameters."""
    fabric, net = fabric_on(ranks), network()
    joint = message_of(lambda: setup(fabric, net, Watched(net.parameters()).dcao))
    if ranks == 1:  # where it is as good as any, and FullyShardedDataParallel shards nothing
        return {"joint setup": joint}
    trainer = Trainer(accelerator="cpu", devices=ranks, strategy=_Flat(**GLOO), callbacks=[DCAOCallback()], **QUIET)
    of_trainer = message_of(lambda: trainer.fit(_FlatRegression()))
    fabric = Fabric(accelerator="cpu", devices=ranks, strategy=_FlatByFabric(**GLOO))
    fabric.launch()
    net = fabric.setup_module(FullyShardedDataParallel(network(), device_id=CPU, use_orig_params=True))
    of_fabric = message_of(lambda: setup_optimizers(fabric, Watched(net.parameters()).dcao))
    return {"joint setup": joint, "flat trainer": of_trainer, "flat fabric": of_fabric}


class _Flat(FSDPStrategy):
    """Lightning refuses its own class on a CPU, and takes modules that are wrapped already."""


class _FlatByFabric(FlatByFabric):
    """The same in Fabric."""


class _FlatRegression(Regression):
    def configure_model(self) -> None:
        self.net = FullyShardedDataParallel(self.net, device_id=CPU, use_orig_params=False)


TRAININGS: Trainings = {
    "trainer": partial(trainer_fit, accumulation=2, gradient_clip_val=0.3, max_epochs=2),
    "trainer resumed": partial(trainer_fit, accumulation=2, gradient_clip_val=0.3, max_epochs=2, resumes=True),
    "trainer manual": partial(trainer_fit, is_manual=True),
    "fabric": fabric_loop,
    "fabric resumed": partial(fabric_loop, resumes=True),
    "trainer failing": partial(trainer_fit, fails=True),
    "fabric failing": partial(fabric_loop, fails=True),
    "refused": refused,
}

if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    train_on_two_and_on_one(TRAININGS, Path(sys.argv[1]))
