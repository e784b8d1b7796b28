"""One run that nobody tuned on real data, against sweeps of its bases: what a CPU does in a night."""

from functools import partial

from dcao_lab.study.config import Arm, StudyConfig, Sweep
from dcao_lab.study.recipes.parts import Amount, amount_of, arm, tasks

SIZES = {
    "small": Amount(
        steps={
            "mnist_mlp": 1000,
            "mnist_cnn": 500,
            "cifar10_resnet20": 500,
            "cifar10_efficientnet_ft": 200,
            "wikitext2_small_transformer": 500,
            "wikitext2_small_lstm": 1000,
        },
        num_seeds=3,
        num_evaluations=2,  # each takes as long as ten to eighty steps
    ),
}
LOWEST_LR = {"adamw": 1e-4, "sgd": 1e-3}  # of six, two in a decade: up to 0.03 and 0.3
COMMON_COSINE = 1e-2  # AdamW's lr with warmup and cosine that was near the best on more workloads than any other


def real(size: str) -> StudyConfig:
    """The study at ``size``; there is one."""
    amount = amount_of(SIZES, size)
    return StudyConfig(
        name="real",
        size=size,
        title="One default on real data",
        question="Is one run that nobody tuned as good as a sweep on MNIST, CIFAR-10 and WikiText-2?",
        tasks=tasks(amount, is_budgeted=True),
        arms=(*swept_by_lr(), *wrapped(), *untuned(cosine_lrs=(COMMON_COSINE,))),
        seeds=amount.seeds,
    )


def swept_by_lr() -> tuple[Arm, ...]:
    """The bases, with a constant lr and with warmup + cosine, each with a sweep that grows until the best is inside."""
    return tuple(
        arm(base, schedule=schedule, sweep=Sweep(lowest=lowest), group="swept")
        for base, lowest in LOWEST_LR.items()
        for schedule in ("constant", "cosine")
    )


def wrapped() -> tuple[Arm, ...]:
    """The bases inside DCAO, as it comes."""
    return tuple(arm(f"dcao:{base}", reference=base, group="DCAO") for base in LOWEST_LR)


def untuned(*, cosine_lrs: tuple[float, ...]) -> tuple[Arm, ...]:
    """What else trains without tuning, against AdamW's sweeps.

    AdamW at torch's lr, AdamW with cosine at each of these lrs for all workloads, and optimizers that need no lr:
    Prodigy with the annealing that its authors recommend.
    """
    as_adamw = partial(arm, reference="adamw", group="untuned")
    return (
        as_adamw("adamw", lr=1e-3),
        *(as_adamw("adamw", lr=lr, schedule="cosine") for lr in cosine_lrs),
        as_adamw("prodigy", schedule="annealing"),
        as_adamw("schedule_free_adamw"),
        as_adamw("dadapt_adam"),
    )
