"""``python -m helpers.lightning_ranks FOLDER``: the same training by Lightning and Fabric in two processes and in one.

A process of its own, because processes that train cannot be forked from one that has called backward before.
"""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy as FabricDDP
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from dcao import DCAO
from dcao.integrations.fabric import setup
from dcao.integrations.lightning import DCAOCallback

GLOBAL_BATCH = 8


class Sharing(LightningModule):
    """In float64; each rank writes down what it has come to."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        self.folder, self.lrs = folder, list[float]()

    def train_dataloader(self) -> DataLoader:
        """Rank r of 2 gets the examples r, r + 2, ..., so that batches of 4 on each are together one of 8."""
        x = torch.randn(240, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        data, ranks = TensorDataset(x, x.sum(dim=1, keepdim=True).sin()), self.trainer.world_size
        sampler = DistributedSampler(data, num_replicas=ranks, rank=self.global_rank, shuffle=False)
        return DataLoader(data, batch_size=GLOBAL_BATCH // ranks, sampler=sampler)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        base = torch.optim.AdamW(self.parameters(), lr=1e-3)
        base.register_step_post_hook(lambda optimizer, *_: self.lrs.append(float(optimizer.param_groups[0]["lr"])))
        self.dcao = DCAO(base)
        return self.dcao

    def on_train_end(self) -> None:
        path = self.folder / f"lightning_{self.global_rank}_of_{self.trainer.world_size}.pt"
        save(path, self.net, self.dcao, self.lrs)


def save(path: Path, net: nn.Module, optimizer: DCAO, lrs: list[float]) -> None:
    weights = torch.cat([p.detach().flatten() for p in net.parameters()])
    torch.save({"lrs": lrs, "weights": weights, "s": optimizer.last_estimate.s}, path)


def fabric_loop(fabric: Fabric, folder: Path) -> None:
    """Accumulates two micro-batches a step, of which each rank has every second example."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    base, lrs = torch.optim.AdamW(plain.parameters(), lr=1e-3), list[float]()
    base.register_step_post_hook(lambda optimizer, *_: lrs.append(float(optimizer.param_groups[0]["lr"])))
    inner = DCAO(base)
    net, optimizer = setup(fabric, plain, inner)
    x = torch.randn(320, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for index, whole in enumerate(x.split(GLOBAL_BATCH)):
        own = whole[fabric.global_rank :: fabric.world_size]
        is_last = index % 2 == 1
        with fabric.no_backward_sync(net, enabled=not is_last):
            optimizer.backward(lambda: F.mse_loss(net(own), own.sum(dim=1, keepdim=True).sin()) / 2)  # noqa: B023
        if is_last:
            optimizer.step()
            optimizer.zero_grad()
    save(folder / f"fabric_{fabric.global_rank}_of_{fabric.world_size}.pt", plain, inner, lrs)


def main(folder: Path) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    settings = {"start_method": "fork", "process_group_backend": "gloo", "timeout": timedelta(seconds=60)}
    two = (FabricDDP(**settings), DDPStrategy(**settings))
    for ranks, (of_fabric, of_trainer) in ((2, two), (1, ("auto", "auto"))):
        fabric = Fabric(accelerator="cpu", devices=ranks, strategy=of_fabric)
        fabric.launch(fabric_loop, folder)
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=ranks,
            strategy=of_trainer,
            use_distributed_sampler=False,
            callbacks=[DCAOCallback()],
            precision="64-true",
            accumulate_grad_batches=2,
            gradient_clip_val=0.3,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Sharing(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
