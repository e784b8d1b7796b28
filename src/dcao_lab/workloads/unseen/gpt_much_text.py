"""A GPT that knows Python's documentation learns to read code: 700 kB of the standard library, in one pass."""

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.unseen.fine_tuning import BATCH_SIZE, FineTuningWorkload
from dcao_lab.workloads.unseen.texts import library_source

SIZE = 778_000  # characters, of which nine tenths are for training

INFO = WorkloadInfo(
    name="gpt_700kb",
    title="GPT on 700 kB",
    summary=f"pretrained GPT of 2 layers, width 64, on 700 kB of Python code by character, batch {BATCH_SIZE}",
    metric="loss",
    higher_is_better=False,
    target=1.75,
    batch_size=BATCH_SIZE,
    num_steps=700,
    eval_every=70,
    step_cost=15.0,
)

WORKLOADS = (FineTuningWorkload(info=INFO, text=lambda: library_source()[:SIZE]),)
