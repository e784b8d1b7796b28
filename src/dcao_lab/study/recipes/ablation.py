"""What each component of DCAO brings: its rules in all combinations, then one setting at a time around the default."""

from itertools import combinations

from dcao_lab.config import Setting
from dcao_lab.study.config import Arm, StudyConfig
from dcao_lab.study.recipes.parts import Amount, amount_of, arm, own_steps, tasks, vary

SIZES = {
    "embedded": Amount(steps={"digits_mlp": 300, "digits_cnn": 300}, num_seeds=3),
    "small": Amount(steps=own_steps("mnist_cnn", "cifar10_resnet18", "ptb_transformer"), num_seeds=3),
    "full": Amount(
        steps=own_steps("cifar10_resnet18", "cifar10_vit", "cifar100_resnet34", "ptb_lstm", "wikitext2_transformer"),
        num_seeds=5,
    ),
}
PROBING_PERIODS: dict[str, tuple[Setting, ...]] = {
    "embedded": (5, 10, 50, "epoch"),
    "small": (100, 500, "epoch"),  # the proposal's
    "full": (100, 500, "epoch"),
}
LEARNING_RATES = (1e-5, 1e-3, 1e-1)  # one that suits AdamW, and two that do not
RULES = ("lr", "momentum", "weight_decay")
SGD_DECAY = 5e-4  # the common choice; torch's default of 0 would leave the weight-decay rule nothing to act on

# Setting, its values, and what else they need to have an effect.
ONE_AT_A_TIME: tuple[tuple[str, tuple[Setting, ...], dict[str, Setting]], ...] = (
    ("target", (0.5, 1.0, 1.5, 1.8), {}),
    ("gamma_down", (0.5, 0.8, 0.95), {}),
    ("gamma_up", (1.02, 1.1, 1.5), {}),
    ("alpha_beta", (0.01, 0.05, 0.2), {"rules": "lr+momentum"}),
    ("alpha_wd", (0.01, 0.05, 0.2), {"rules": "lr+weight_decay"}),
    ("measure", ("load", "batch", "preconditioned", "hessian"), {}),
)


def ablation(size: str) -> StudyConfig:
    """The study at ``size``."""
    amount = amount_of(SIZES, size)
    return StudyConfig(
        name="ablation",
        size=size,
        title="What each component of DCAO brings",
        question="Which rules and settings of DCAO matter, from a good initial learning rate and from bad ones?",
        tasks=tasks(amount),
        arms=(*_rules("adamw", {}), *_rules("sgd", {"weight_decay": SGD_DECAY}), *_settings(size)),
        seeds=amount.seeds,
        variations=vary("lr", *LEARNING_RATES),
    )


def rule_sets() -> tuple[str, ...]:
    """All eight combinations of the rules.

    Example:
        >>> rule_sets()[:5]
        ('none', 'lr', 'momentum', 'weight_decay', 'lr+momentum')
    """
    return tuple("+".join(chosen) or "none" for size in range(4) for chosen in combinations(RULES, size))


def _rules(base: str, fixed: dict[str, Setting]) -> tuple[Arm, ...]:
    bare = arm(base, fixed, group=f"rules of {base}")
    return (
        bare,
        *(
            arm(f"dcao:{base}", {"rules": rules, **fixed}, reference=bare.name, group=f"rules of {base}")
            for rules in rule_sets()
        ),
    )


def _settings(size: str) -> tuple[Arm, ...]:
    """Each is compared with DCAO as it is recommended; the literal ones, which alone use k, with k = 10."""
    default = arm("dcao:adamw", reference="adamw", group="default")
    varied = (*ONE_AT_A_TIME, ("every", PROBING_PERIODS[size], {}))
    literal = {k: arm("dcao-literal:adamw", {"k": k}, reference="adamw", group="k") for k in (5, 10, 20)}
    return (
        default,
        *(
            arm("dcao:adamw", {name: value, **needed}, reference=default.name, group=name)
            for name, values, needed in varied
            for value in values
        ),
        *literal.values(),
    )
