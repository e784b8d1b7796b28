"""What measuring costs: time, gradient evaluations and memory against the bare optimizer, over the same steps."""

from functools import partial

from dcao_lab.study.config import Arm, StudyConfig
from dcao_lab.study.recipes.parts import Amount, amount_of, arm, tasks

SIZES = {
    "embedded": Amount(
        steps={"digits_mlp": 300, "digits_cnn": 300, "digits_resnet": 100, "digits_vit": 150, "pydoc_gpt": 150},
        num_seeds=3,
    ),
    "small": Amount(
        steps=dict.fromkeys(("mnist_mlp", "mnist_cnn", "cifar10_resnet18", "ptb_lstm", "ptb_transformer"), 500),
        num_seeds=3,
    ),
    "full": Amount(
        steps=dict.fromkeys(
            (
                "cifar10_resnet18",
                "cifar10_resnet50",
                "cifar10_vit",
                "imagenet_resnet50",
                "imagenet_vit",
                "ptb_lstm",
                "wikitext2_transformer",
                "wikitext2_gpt2",
            ),
            500,
        ),
        num_seeds=3,
    ),
}


def overhead(size: str) -> StudyConfig:
    """The study at ``size``."""
    amount = amount_of(SIZES, size)
    return StudyConfig(
        name="overhead",
        size=size,
        title="What DCAO costs",
        question="How much time, how many gradient evaluations and how much memory does DCAO add to its base?",
        tasks=tasks(amount),
        arms=(*_dcao_arms(), *_second_order_arms()),
        seeds=amount.seeds,
    )


def _dcao_arms() -> tuple[Arm, ...]:
    on_adamw = partial(arm, reference="adamw", group="DCAO(AdamW)")
    return (
        arm("adamw", group="bare"),
        on_adamw("dcao:adamw"),
        *(on_adamw("dcao:adamw", {"every": every}) for every in (1, 50, 100)),
        *(on_adamw("dcao:adamw", {"measure": name}) for name in ("batch", "preconditioned", "hessian")),
        *(on_adamw("dcao-literal:adamw", {"k": 10, "every": every}) for every in (50, 100)),
        arm("sgd", group="bare"),
        arm("dcao:sgd", reference="sgd", group="DCAO(SGD)"),
        arm("dcao-literal:sgd", {"k": 10}, reference="sgd", group="DCAO(SGD)"),
    )


def _second_order_arms() -> tuple[Arm, ...]:
    names = ("adahessian", "sophia", "kfac", "soap", "muon")
    return tuple(arm(name, reference="adamw", group="other optimizers") for name in names)
