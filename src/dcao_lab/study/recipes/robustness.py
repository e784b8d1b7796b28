"""How far from a good setting the optimizers still train: one condition of the run at a time."""

from dcao_lab.study.config import Arm, StudyConfig, Variation, VariedSetting
from dcao_lab.study.recipes.parts import FULL, Amount, amount_of, arm, own_steps, tasks, vary

SIZES = {
    "embedded": Amount(
        steps={"digits_mlp": 400, "digits_resnet": 200, "mnist1d_conv": 1000, "pydoc_gpt": 300}, num_seeds=5
    ),
    "small": Amount(steps=own_steps("mnist_mlp", "mnist_cnn", "cifar10_resnet18"), num_seeds=5),
    "full": FULL,
}
FEWER_SEEDS = 3  # where a difference that matters is of tens of points
WHERE_BASES_LIVE = (-4, 0)  # decades of the initial lr; 1e-4 is in, 1 is the first beyond
DECADES = (-7, 2)


def robustness(size: str) -> StudyConfig:
    """The study at ``size``."""
    amount = amount_of(SIZES, size)
    tuned, wrapped = tuned_by_lr(), _wrapped()
    return StudyConfig(
        name="robustness",
        size=size,
        title="Robustness to the conditions of a run",
        question="How much worse does training get when the initial settings or the data are not what they should be?",
        tasks=tasks(amount, is_budgeted=True),
        arms=(*tuned, *wrapped, *_others()),
        seeds=amount.seeds,
        variations=(
            *learning_rates(between=names(tuned)),
            *other_conditions(arms=("adamw", "dcao:adamw", "sgd", "dcao:sgd")),
        ),
    )


def learning_rates(between: tuple[str, ...], far: tuple[str, ...] | None = None) -> tuple[Variation, ...]:
    """Nine decades of the initial learning rate; for the arms ``between``, those that live there by thirds.

    With the decades these are 12 points from 1e-4 to 0.46: what a person would try who tunes the lr. The arms ``far``
    alone (None: all) go through the decades outside.
    """
    near, others = range(*WHERE_BASES_LIVE), [e for e in range(*DECADES) if e not in range(*WHERE_BASES_LIVE)]
    return (
        *vary("lr", *(_power(exponent) for exponent in near)),
        *vary("lr", *(_power(exponent + third / 3) for exponent in near for third in (1, 2)), arms=between),
        *vary("lr", *(_power(exponent) for exponent in others), arms=far),
    )


def other_conditions(arms: tuple[str, ...]) -> tuple[Variation, ...]:
    """The ends of the proposal's ranges, of batch size (a factor of 2 to the 6th) and of four others."""
    ends: dict[VariedSetting, tuple[float, float]] = {
        "batch_size": (8, 512),
        "weight_decay": (0.0, 1.0),
        "momentum": (0.0, 0.99),
        "init_scale": (0.125, 8.0),
        "label_noise": (0.1, 0.4),
    }
    return tuple(
        variation
        for axis, values in ends.items()
        for variation in vary(axis, *values, arms=arms, num_seeds=FEWER_SEEDS)
    )


def tuned_by_lr() -> tuple[Arm, ...]:
    """The bases, with a constant lr and with warmup + cosine."""
    return tuple(arm(base, schedule=schedule) for base in ("adamw", "sgd") for schedule in ("constant", "cosine"))


def _wrapped() -> tuple[Arm, ...]:
    return (
        arm("dcao:adamw", reference="adamw"),
        arm("dcao-literal:adamw", reference="adamw"),
        arm("dcao:sgd", reference="sgd"),
    )


def _others() -> tuple[Arm, ...]:
    return tuple(arm(name) for name in ("prodigy", "schedule_free_adamw", "cdat"))


def names(arms: tuple[Arm, ...]) -> tuple[str, ...]:
    """Their names."""
    return tuple(each.name for each in arms)


def _power(exponent: float) -> float:
    """``10 ** exponent`` to three digits, the same on every machine."""
    return float(f"{10.0**exponent:.3g}")
