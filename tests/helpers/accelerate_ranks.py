"""``python -m helpers.accelerate_ranks FOLDER``: the same training in two processes and in one.

A loop under Accelerate, and the Trainer of Hugging Face. A process of its own, because processes that train cannot be
forked from one that has called backward before.
"""

from __future__ import annotations

import os
import socket
import sys
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import multiprocessing, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from dcao import DCAO
from dcao.integrations.accelerate import prepare
from dcao.integrations.transformers import DCAOTrainer

GLOBAL_BATCH, SECONDS = 8, 60


def watched(model: nn.Module) -> tuple[DCAO, list[float]]:
    base, lrs = torch.optim.AdamW(model.parameters(), lr=1e-3), list[float]()
    base.register_step_post_hook(lambda optimizer, *_: lrs.append(float(optimizer.param_groups[0]["lr"])))
    return DCAO(base), lrs


def save(path: Path, model: nn.Module, optimizer: DCAO, lrs: list[float]) -> None:
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.save({"lrs": lrs, "weights": weights, "s": optimizer.last_estimate.s}, path)


def accelerate_loop(path: Path, ranks: int) -> None:
    """Accumulates two micro-batches a step; rank r of 2 gets the batches r, r + 2, ... of half the size."""
    group = InitProcessGroupKwargs(timeout=timedelta(seconds=SECONDS))
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2, kwargs_handlers=[group])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    optimizer, lrs = watched(model)
    x = torch.randn(320, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = TensorDataset(x, x.sum(dim=1, keepdim=True).sin())
    loader = DataLoader(data, batch_size=GLOBAL_BATCH // ranks)
    model, prepared, loader = prepare(accelerator, model, optimizer, loader)
    for inputs, targets in loader:
        with accelerator.accumulate(model):
            prepared.backward(lambda x, y: F.mse_loss(model(x), y), inputs, targets)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 0.3)
            prepared.step()
            prepared.zero_grad()
    save(path, model, optimizer, lrs)


def hugging_face(path: Path, ranks: int) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 16, "n_positions": 12, "n_embd": 8, "n_layer": 1, "n_head": 2}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **off)).double()
    model.loss_type = "ForCausalLM"
    optimizer, lrs = watched(model)
    rows = []
    for index in range(128):
        tokens = [(7 * index + 3 * place) % 16 for place in range(12)]
        rows.append({"input_ids": tokens, "labels": [-100] * (index % 5) + tokens[index % 5 :]})
    settings = TrainingArguments(
        output_dir=str(path.parent / "run"),
        per_device_train_batch_size=GLOBAL_BATCH // ranks,
        num_train_epochs=1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        ddp_backend="gloo" if ranks > 1 else None,
        ddp_timeout=SECONDS,
    )
    DCAOTrainer(model, settings, train_dataset=rows, optimizers=(optimizer, None)).train()
    save(path, model, optimizer, lrs)


TRAININGS = {"accelerate": accelerate_loop, "hugging_face": hugging_face}


def one_rank(rank: int, ranks: int, port: int, name: str, folder: Path) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), **address}
    TRAININGS[name](folder / f"{name}_{rank}_of_{ranks}.pt", ranks)


def main(folder: Path) -> None:
    for name in TRAININGS:
        for ranks in (2, 1):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            arguments = (ranks, port, name, folder)
            multiprocessing.start_processes(one_rank, args=arguments, nprocs=ranks, start_method="fork")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
