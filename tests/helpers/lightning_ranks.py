"""``python -m helpers.lightning_ranks FOLDER``: the same training by Lightning in two processes and in one.

A process of its own, because processes that train cannot be forked from one that has called backward before.
"""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from dcao import DCAO
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
        weights = torch.cat([p.detach().flatten() for p in self.net.parameters()])
        found = {"lrs": self.lrs, "weights": weights, "s": self.dcao.last_estimate.s}
        torch.save(found, self.folder / f"{self.global_rank}_of_{self.trainer.world_size}.pt")


def main(folder: Path) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    two = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=60))
    for strategy, ranks in ((two, 2), ("auto", 1)):
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=ranks,
            strategy=strategy,
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
