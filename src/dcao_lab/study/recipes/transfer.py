"""One default elsewhere: workloads that were kept aside, and batches much smaller and larger than usual."""

from dcao_lab.study.config import StudyConfig
from dcao_lab.study.recipes.parts import Amount, amount_of, arm, own_steps, tasks
from dcao_lab.study.recipes.robustness import learning_rates, names, tuned_by_lr

KEPT_ASIDE = {"digits_vit": 300, "mnist1d_mlp": 1000, "pydoc_lstm": 250}
"""In no study and no trial that the default was chosen by; the one before it was seen on the ViT (overhead, eos)."""

OTHER_BATCHES = {"digits_mlp_16": 400, "digits_mlp_1024": 400}

SIZES = {
    "embedded": Amount(steps={**KEPT_ASIDE, **OTHER_BATCHES}, num_seeds=5),
    "small": Amount(steps=own_steps("cifar10_vit", "ptb_transformer"), num_seeds=5),
    "full": Amount(steps=own_steps("imagenet_resnet50", "wikitext2_gpt2"), num_seeds=5),
}


def transfer(size: str) -> StudyConfig:
    """The study at ``size``: nine decades of the initial lr for DCAO, the sweep for its bases."""
    amount = amount_of(SIZES, size)
    tuned = tuned_by_lr()
    wrapped = (arm("dcao:adamw", reference="adamw"), arm("dcao:sgd", reference="sgd"))
    return StudyConfig(
        name="transfer",
        size=size,
        title="One default elsewhere",
        question="Is DCAO as good as a tuned learning rate on workloads kept aside, and with other batches?",
        tasks=tasks(amount, is_budgeted=True),
        arms=(*tuned, *wrapped),
        seeds=amount.seeds,
        variations=learning_rates(between=names(tuned), far=names(wrapped)),
    )
