"""A GPT that knows Python's documentation learns 20 kB of new text, which ten passes could learn by heart."""

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.unseen.fine_tuning import BATCH_SIZE, FineTuningWorkload
from dcao_lab.workloads.unseen.texts import dataset_descriptions

SIZE = 22_200  # characters, of which nine tenths are for training

INFO = WorkloadInfo(
    name="gpt_20kb",
    title="GPT on 20 kB",
    summary=f"pretrained GPT of 2 layers, width 64, on 20 kB about data sets by character, batch {BATCH_SIZE}",
    metric="loss",
    higher_is_better=False,
    target=2.41,
    batch_size=BATCH_SIZE,
    num_steps=200,
    eval_every=20,
    step_cost=15.0,
)

WORKLOADS = (FineTuningWorkload(info=INFO, text=lambda: dataset_descriptions()[:SIZE]),)
