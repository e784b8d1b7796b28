"""One default elsewhere: problems that it was not developed on, and batches much smaller and larger than usual."""

from dcao_lab.study.config import StudyConfig
from dcao_lab.study.recipes.parts import Amount, amount_of, own_steps, tasks
from dcao_lab.study.recipes.real import swept_by_lr, untuned, wrapped
from dcao_lab.workloads import UNSEEN

KEPT_ASIDE = {"digits_vit": 300, "mnist1d_mlp": 1000, "pydoc_lstm": 250}
"""In no study and no trial that the default was chosen by; the one before it was seen on the ViT (overhead, eos)."""

OTHER_BATCHES = {"digits_mlp_16": 400, "digits_mlp_1024": 400}

SIZES = {
    "embedded": Amount(steps={**KEPT_ASIDE, **OTHER_BATCHES, **own_steps(*UNSEEN)}, num_seeds=10, num_evaluations=4),
    "small": Amount(steps=own_steps("cifar10_vit", "ptb_transformer"), num_seeds=3),
    "full": Amount(steps=own_steps("imagenet_resnet50", "wikitext2_gpt2"), num_seeds=3),
}
FIXED_LRS = (1e-3, 3.16e-3, 1e-2)  # on the sweeps' grid, so that runs are shared


def transfer(size: str) -> StudyConfig:
    """The study at ``size``: one run of each arm that nobody tunes, against sweeps of AdamW and SGD."""
    amount = amount_of(SIZES, size)
    return StudyConfig(
        name="transfer",
        size=size,
        title="One default elsewhere",
        question="Is one run that nobody tuned as good as a sweep, on problems that the default was not developed on?",
        tasks=tasks(amount, is_budgeted=True),
        arms=(*swept_by_lr(), *wrapped(), *untuned(cosine_lrs=FIXED_LRS)),
        seeds=amount.seeds,
    )
