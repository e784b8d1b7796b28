"""How far from a good setting the optimizers still train: one condition of the run at a time."""

from dcao_lab.study.config import StudyConfig, Variation
from dcao_lab.study.recipes.parts import Amount, amount_of, arm, own_steps, tasks, vary

SIZES = {
    "embedded": Amount(steps={"digits_mlp": 400, "digits_cnn": 250}, num_seeds=3),
    "small": Amount(steps=own_steps("mnist_mlp", "mnist_cnn", "cifar10_resnet18"), num_seeds=3),
    "full": Amount(
        steps=own_steps("cifar10_resnet18", "cifar10_vit", "cifar100_resnet34", "ptb_lstm", "wikitext2_transformer"),
        num_seeds=5,
    ),
}


def robustness(size: str) -> StudyConfig:
    """The study at ``size``."""
    amount = amount_of(SIZES, size)
    return StudyConfig(
        name="robustness",
        size=size,
        title="Robustness to the conditions of a run",
        question="How much worse does training get when the initial settings or the data are not what they should be?",
        tasks=tasks(amount),
        arms=(
            arm("adamw"),
            arm("dcao:adamw", reference="adamw"),
            arm("sgd"),
            arm("dcao:sgd", reference="sgd"),
        ),
        seeds=amount.seeds,
        variations=variations(),
    )


def variations() -> tuple[Variation, ...]:
    """The initial learning rate over 8 decades, the batch size over a factor of 2 to the 6th, and four others."""
    return (
        *vary("lr", *(float(f"1e{exponent}") for exponent in range(-7, 2))),
        *vary("batch_size", *(2**exponent for exponent in range(3, 10))),
        *vary("weight_decay", 0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        *vary("momentum", 0.0, 0.5, 0.9, 0.95, 0.99),
        *vary("init_scale", *(2.0**exponent for exponent in range(-3, 4))),
        *vary("label_noise", 0.0, 0.1, 0.2, 0.4),
    )
