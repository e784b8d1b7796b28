"""A GPT that knows Python's documentation learns licences by LoRA: only factors of rank 4 train, half of them zeros."""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.networks.character_gpt import CharacterGPT
from dcao_lab.workloads.networks.lora import adapted
from dcao_lab.workloads.unseen.fine_tuning import BATCH_SIZE, FineTuningWorkload
from dcao_lab.workloads.unseen.texts import licences

RANK = 4

INFO = WorkloadInfo(
    name="gpt_lora",
    title="GPT with LoRA",
    summary=f"pretrained GPT of 2 layers, width 64, LoRA of rank {RANK} on software licences, batch {BATCH_SIZE}",
    metric="loss",
    higher_is_better=False,
    target=1.75,
    batch_size=BATCH_SIZE,
    num_steps=300,
    eval_every=30,
    step_cost=13.0,
)


def with_lora(gpt: CharacterGPT) -> nn.Module:
    """The GPT with factors in all linear layers of its blocks: 8 192 numbers that train."""
    return adapted(gpt, gpt.blocks, RANK)


WORKLOADS = (FineTuningWorkload(info=INFO, text=licences, adapt=with_lora),)
