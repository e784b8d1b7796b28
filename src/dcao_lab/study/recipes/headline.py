"""DCAO against every baseline, all tuned alike, with gradient evaluations as the budget."""

from dcao_lab.study.config import Arm, StudyConfig, Tuning, Watching
from dcao_lab.study.recipes.parts import Amount, amount_of, arm, own_steps, tasks

SIZES = {
    "embedded": Amount(
        steps={
            "digits_mlp": 500,
            "digits_cnn": 400,
            "digits_resnet": 200,
            "mnist1d_conv": 1000,
            "pydoc_gpt": 400,
            "pydoc_lstm": 250,
        },
        num_seeds=5,
        num_trials=8,
        num_watched=1,
    ),
    "small": Amount(
        steps=own_steps("mnist_mlp", "mnist_cnn", "cifar10_resnet18", "ptb_lstm", "ptb_transformer"),
        num_seeds=5,
        num_trials=8,
        num_watched=1,
    ),
    "full": Amount(
        steps=own_steps(
            "mnist_mlp",
            "mnist_cnn",
            "cifar10_resnet18",
            "cifar10_resnet34",
            "cifar10_resnet50",
            "cifar10_vit",
            "cifar100_resnet18",
            "cifar100_resnet34",
            "cifar100_resnet50",
            "cifar100_vit",
            "imagenet_resnet50",
            "imagenet_vit",
            "ptb_lstm",
            "ptb_transformer",
            "wikitext2_lstm",
            "wikitext2_transformer",
            "wikitext2_gpt2",
        ),
        num_seeds=5,
        num_trials=16,
        num_watched=1,
    ),
}


def headline(size: str) -> StudyConfig:
    """The study at ``size``."""
    amount = amount_of(SIZES, size)
    return StudyConfig(
        name="headline",
        size=size,
        title="DCAO against its baselines",
        question="Does DCAO train better than the optimizers in use, when all are tuned alike and probes are paid for?",
        tasks=tasks(amount, is_budgeted=True),
        arms=(*_core_arms(), *_more_baselines(), *_more_dcao()),
        seeds=amount.seeds,
        tuning=Tuning(num_trials=amount.num_trials),
        watching=Watching(seeds=tuple(range(amount.num_watched)), spectra=amount.spectra),
    )


def _core_arms() -> tuple[Arm, ...]:
    return (
        arm("adamw", group="first order"),
        arm("dcao:adamw", reference="adamw", group="DCAO"),
        arm("sgd", group="first order"),
        arm("dcao:sgd", reference="sgd", group="DCAO"),
    )


def _more_baselines() -> tuple[Arm, ...]:
    return (
        arm("adamw", schedule="cosine", group="schedule"),
        arm("adamw", schedule="linear", group="schedule"),
        arm("sgd", schedule="cosine", group="schedule"),
        *(arm(name, group="first order") for name in ("adam", "schedule_free_adamw", "prodigy", "dadapt_adam", "lion")),
        *(arm(name, group="preconditioned") for name in ("kfac", "soap", "muon")),
        *(arm(name, group="curvature") for name in ("adahessian", "sophia", "adler", "cdat")),
    )


def _more_dcao() -> tuple[Arm, ...]:
    return (
        arm("dcao:adamw", {"decay": 0.0}, reference="adamw", group="DCAO"),  # as where the end is not known
        arm("dcao-literal:adamw", reference="adamw", group="literal DCAO"),
        arm("dcao-literal:sgd", reference="sgd", group="literal DCAO"),
    )
