"""``python -m helpers.sharded_accelerate FOLDER``: Accelerate and the Trainer of Hugging Face with ``fully_shard``."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from dcao import DCAO
from dcao.integrations.accelerate import dcao_of, prepare
from dcao.integrations.transformers import DCAOTrainer
from helpers.trainer_ranks import TIMEOUT, Trainings, Watched, examples, message_of, network, train_on_two_and_on_one

GLOBAL_BATCH, STEPS, SAVED_AT = 8, 22, 11
"""A run is saved between two probes: one that is due at the very next step would be made one step later."""

PLUGIN = {"auto_wrap_policy": "transformer_based_wrap", "transformer_cls_names_to_wrap": ["Block"]}


def begin(ranks: int) -> None:
    """Forget the last training. Accelerate shards only where it has found GPUs, so that it is told that it has."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    os.environ.pop("ACCELERATE_USE_FSDP", None)
    if ranks > 1:
        PartialState(cpu=True, backend="gloo", timeout=TIMEOUT)
        say_that_there_are_gpus()


def say_that_there_are_gpus() -> None:
    PartialState._shared_state |= {"distributed_type": DistributedType.MULTI_GPU, "device": torch.device("cpu")}


def accelerator_on(ranks: int, accumulation: int = 1, precision: str = "no", **plugin: Any) -> Accelerator:
    begin(ranks)
    shards = FullyShardedDataParallelPlugin(**({"fsdp_version": 2} | PLUGIN | plugin)) if ranks > 1 else None
    return Accelerator(
        cpu=True, gradient_accumulation_steps=accumulation, fsdp_plugin=shards, mixed_precision=precision
    )


def accelerate_loop(
    ranks: int,
    folder: Path,
    *,
    accumulation: int = 1,
    clip: float | None = None,
    minimizes: bool = False,
    is_scheduled: bool = False,
    resumes: bool = False,
    fails: bool = False,
    **plugin: Any,
) -> dict[str, Any]:
    accelerator = accelerator_on(ranks, accumulation, **plugin)
    net = network()
    weights, biases = ([p for p in net.parameters() if (p.ndim > 1) is wide] for wide in (True, False))
    watched = Watched([{"params": weights}, {"params": biases, "weight_decay": 0.0, "lr": 1e-4}])
    # Accelerate steps a scheduler once for each rank.
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(watched.dcao, T_max=STEPS * ranks)
    loader = DataLoader(TensorDataset(*examples(GLOBAL_BATCH * STEPS * accumulation)), batch_size=GLOBAL_BATCH // ranks)
    prepared = prepare(accelerator, net, watched.dcao, loader, *([cosine] if is_scheduled else []))
    net, optimizer, loader, scheduler = prepared if is_scheduled else (*prepared, None)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if fails:
            watched.fail(accelerator.process_index)
        return F.mse_loss(net(x), y)

    if resumes:
        accelerator.load_state(str(folder / "accelerate"))
    for index, (x, y) in enumerate(loader):
        if resumes and index < SAVED_AT * accumulation:
            continue
        with accelerator.accumulate(net):
            if minimizes:
                optimizer.minimize(partial(loss_of, x, y), clip_norm=clip)
            else:
                optimizer.backward(loss_of, x, y)
                if clip is not None and accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(net.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
            if scheduler is not None:
                scheduler.step()
        if index + 1 == SAVED_AT * accumulation and not resumes:
            accelerator.save_state(str(folder / "accelerate"))
    return watched.result(net)


def in_bfloat16(ranks: int, folder: Path) -> dict[str, Any]:
    """Under Accelerate, and the same in a loop of one's own; there is no such run in one process."""
    if ranks == 1:
        return {}
    accelerator = accelerator_on(ranks, precision="bf16")
    inputs = [
        x.float()[accelerator.process_index :: ranks] for x in examples(GLOBAL_BATCH * STEPS)[0].split(GLOBAL_BATCH)
    ]
    net, own = network().float(), network().float()
    watched = Watched(net.parameters())
    net, optimizer = prepare(accelerator, net, watched.dcao)
    for x in inputs:
        optimizer.backward(lambda x: F.mse_loss(net(x), x.sum(dim=1, keepdim=True)), x)
        optimizer.step()
        optimizer.zero_grad()
    for layer in (own[2], own[3], own):
        fully_shard(layer, mp_policy=accelerator.state.fsdp_plugin.mixed_precision_policy)
    by_hand = Watched(own.parameters())

    def closure() -> torch.Tensor:
        by_hand.dcao.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            outputs = own(x)
        loss = F.mse_loss(outputs.float(), x.sum(dim=1, keepdim=True))
        loss.backward()
        return loss

    for x in inputs:  # noqa: B007  # the closure reads it
        by_hand.dcao.step(closure)
    return {"under accelerate": watched.result(net), "by hand": by_hand.result(own)}


class Trained(DCAOTrainer):
    """With settings of DCAO, for which there is no other way under FSDP."""

    fails = False

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        if self.fails:
            self.watched.fail(self.args.process_index)
        return super().compute_loss(*args, **kwargs)

    def wrap_optimizer(self, base: torch.optim.Optimizer) -> DCAO:
        optimizer = DCAO(base, seed=1)
        self.watched = Watched.__new__(Watched)
        self.watched.watch(optimizer)
        return optimizer


def hugging_face(
    ranks: int, folder: Path, *, resumes: bool = False, fails: bool = False, accumulation: int = 1, **fsdp: Any
) -> dict[str, Any]:
    begin(1)
    torch.manual_seed(0)
    sizes = {"vocab_size": 16, "n_positions": 12, "n_embd": 8, "n_layer": 2, "n_head": 2}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **off)).double()
    model.loss_type = "ForCausalLM"
    rows = []
    for index in range(GLOBAL_BATCH * STEPS * accumulation):
        tokens = [(7 * index + 3 * place) % 16 for place in range(12)]
        rows.append({"input_ids": tokens, "labels": [-100] * (index % 5) + tokens[index % 5 :]})
    shards = {"version": 2, "transformer_layer_cls_to_wrap": ["GPT2Block"], **fsdp}
    settings = TrainingArguments(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=GLOBAL_BATCH // ranks,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=1,
        report_to=[],
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="steps",
        save_steps=SAVED_AT,
        disable_tqdm=True,
        logging_steps=STEPS,
        use_cpu=True,
        ddp_backend="gloo" if ranks > 1 else None,
        ddp_timeout=int(TIMEOUT.total_seconds()),
        fsdp=ranks > 1,
        fsdp_config=shards if ranks > 1 else None,
    )
    if ranks > 1:
        say_that_there_are_gpus()
    trainer = Trained(model, settings, train_dataset=rows, eval_dataset=rows[:8])
    trainer.fails = fails
    trainer.train(resume_from_checkpoint=str(folder / "run" / f"checkpoint-{SAVED_AT}") if resumes else None)
    logged = [each["learning_rate"] for each in trainer.state.log_history if "learning_rate" in each]
    return trainer.watched.result(trainer.model) | {
        "logged": logged,
        "seed": dcao_of(trainer.optimizer).loop.probe.seed,
    }


def refused_version_one(ranks: int, folder: Path) -> dict[str, str]:
    """Flat parameters, of the older FullyShardedDataParallel; in one process there are none."""
    if ranks == 1:
        return {}
    net = network()
    accelerator = accelerator_on(ranks, fsdp_version=1)
    ours = message_of(lambda: prepare(accelerator, net, DCAO(torch.optim.AdamW(net.parameters()))))
    theirs = message_of(lambda: hugging_face(ranks, folder, version=1, sync_module_states=False))
    return {"accelerate": ours, "hugging_face": theirs}


TRAININGS: Trainings = {
    "accelerate": partial(accelerate_loop, accumulation=2, clip=0.3),
    "accelerate resumed": partial(accelerate_loop, accumulation=2, clip=0.3, resumes=True),
    "accelerate scheduled": partial(accelerate_loop, is_scheduled=True, cpu_ram_efficient_loading=True),
    "accelerate minimize": partial(accelerate_loop, minimizes=True, clip=0.3, state_dict_type="FULL_STATE_DICT"),
    "accelerate minimize resumed": partial(
        accelerate_loop, minimizes=True, clip=0.3, state_dict_type="FULL_STATE_DICT", resumes=True
    ),
    "hugging_face": partial(hugging_face, accumulation=2),
    "hugging_face resumed": partial(hugging_face, accumulation=2, resumes=True),
    "accelerate failing": partial(accelerate_loop, fails=True),
    "hugging_face failing": partial(hugging_face, fails=True),
    "bfloat16": in_bfloat16,
    "refused": refused_version_one,
}

if __name__ == "__main__":
    train_on_two_and_on_one(TRAININGS, Path(sys.argv[1]))
