"""A GPT that knows Python's documentation learns three licences, 59 kB, with all its weights trained.

They ship with packages of the lab. Where the task was first tried the texts were six licences of Debian, 119 kB, which
not every machine has. Losses differ (there 1.59 at the best constant lr, here 1.51), the best learning rates do not.
"""

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.unseen.fine_tuning import BATCH_SIZE, FineTuningWorkload
from dcao_lab.workloads.unseen.texts import licences

INFO = WorkloadInfo(
    name="gpt_licences",
    title="GPT on licences",
    summary=f"pretrained GPT of 2 layers, width 64, on licences by character, batch {BATCH_SIZE}",
    metric="loss",
    higher_is_better=False,
    target=1.54,
    batch_size=BATCH_SIZE,
    num_steps=200,
    eval_every=20,
    step_cost=15.0,
)

WORKLOADS = (FineTuningWorkload(info=INFO, text=licences),)
