"""What each idea of DCAO brings: every setting alone around the default, each combination of rules, the proposal's."""

from itertools import combinations

from dcao_lab.baselines.dcao.settings import HYPERPARAMETERS
from dcao_lab.config import Setting
from dcao_lab.study.config import Arm, StudyConfig, Variation
from dcao_lab.study.recipes.parts import FULL, SMALL, Amount, amount_of, arm, tasks, vary

SIZES = {
    "embedded": Amount(steps={"digits_mlp": 400, "mnist1d_conv": 1000, "pydoc_gpt": 300}, num_seeds=3),
    "small": SMALL,
    "full": FULL,
}
PROBING_PERIODS: dict[str, tuple[Setting, ...]] = {
    "embedded": (1, 5, 50, 100, "epoch"),
    "small": (100, 500, "epoch"),  # the proposal's
    "full": (100, 500, "epoch"),
}
LITERAL_PERIODS: dict[str, tuple[Setting, ...]] = {**PROBING_PERIODS, "embedded": (100, "epoch")}  # beside T = 50
GOOD_LR = {"adamw": 1e-3, "sgd": 1e-1}
BAD_LR = 1e-5  # for both; and each one's good lr is bad for the other
SGD_DECAY = 5e-4  # the common choice; torch's default of 0 would leave the weight-decay rule nothing to act on
NO_LIMIT = 1e9
GAINS: dict[str, tuple[Setting, ...]] = {"alpha_beta": (0.01, 0.2), "alpha_wd": (0.01, 0.2)}  # beside 0.05

ONE_AT_A_TIME: dict[str, tuple[Setting, ...]] = {
    "target": (2.0, 4.0, 16.0, NO_LIMIT),
    "max_relative_step": (0.03, 0.3, NO_LIMIT),
    "first_relative_step": (3e-3,),
    "growth": (1.05, 1.3),
    "gamma_down": (0.5, 0.95),
    "gamma_arrival": (0.8,),
    "decay": (0.0, 0.3, 0.8),
    "watched": (0.0,),  # no range test
    "window": (1, 7),
    "measure": ("batch", "preconditioned", "hessian"),
}
PROPOSAL: tuple[dict[str, Setting], ...] = (
    {"target": 1.0},
    {"target": 1.8},
    {"gamma_down": 0.5},
    {"gamma_down": 0.95},
    {"gamma_up": 1.02},
    {"gamma_up": 1.5},
    {"target_schedule": "cosine"},
)


def ablation(size: str) -> StudyConfig:
    """The study at ``size``: from several lrs what starts from the lr it is given, the rest from one."""
    amount = amount_of(SIZES, size)
    anywhere = (arm("adamw"), arm("sgd", _fixed("sgd")), *_starts(), *_proposals(), *_literals(size))
    on_adamw, on_sgd = (*_rules("adamw"), *_gains(), *_settings(size)), _rules("sgd")
    return StudyConfig(
        name="ablation",
        size=size,
        title="What each component of DCAO brings",
        question="Which rules and settings of DCAO matter, and which of the proposal's?",
        tasks=tasks(amount),  # equal steps: arms that probe more cost more, and are told beside their cost
        arms=(*anywhere, *on_adamw, *on_sgd),
        seeds=amount.seeds,
        variations=(
            *_from(BAD_LR, anywhere),
            *_from(GOOD_LR["adamw"], (*anywhere, *on_adamw)),
            *_from(GOOD_LR["sgd"], (*anywhere, *on_sgd)),
        ),
    )


def rule_sets() -> tuple[str, ...]:
    """All eight combinations of the rules.

    Example:
        >>> rule_sets()[:5]
        ('none', 'lr', 'momentum', 'weight_decay', 'lr+momentum')
    """
    return tuple("+".join(chosen) or "none" for size in range(4) for chosen in combinations(HYPERPARAMETERS, size))


def _from(lr: float, arms: tuple[Arm, ...]) -> tuple[Variation, ...]:
    return vary("lr", lr, arms=tuple(each.name for each in arms))


def _starts() -> tuple[Arm, ...]:
    """The default, and with the given lr instead of a short first step."""
    return (
        arm("dcao:adamw", reference="adamw", group="default"),
        arm("dcao:adamw", {"first_relative_step": "given"}, reference="dcao:adamw", group="first_relative_step"),
    )


def _settings(size: str) -> tuple[Arm, ...]:
    """Each setting alone; and, in place of the decay or beside it, an average of the weights."""
    averages = tuple(
        arm("dcao:adamw", settings, reference="dcao:adamw", group="average")
        for settings in ({"average": 8.0}, *({"decay": 0.0, "average": gamma} for gamma in (4.0, 8.0, 16.0)))
    )
    return averages + tuple(
        arm("dcao:adamw", {name: value}, reference="dcao:adamw", group=name)
        for name, values in {**ONE_AT_A_TIME, "every": PROBING_PERIODS[size]}.items()
        for value in values
    )


def _rules(base: str) -> tuple[Arm, ...]:
    fixed = _fixed(base)
    bare = arm(base, fixed).name
    return tuple(
        arm(f"dcao:{base}", {"rules": rules, **fixed}, reference=bare, group=f"rules of {base}")
        for rules in rule_sets()
    )


def _gains() -> tuple[Arm, ...]:
    """How strongly the rules of momentum and weight decay act, ours and the proposal's."""
    rules = {"alpha_beta": "lr+momentum", "alpha_wd": "lr+weight_decay"}
    pairs = [(name, gain) for name, gains in GAINS.items() for gain in gains]
    ours = [("dcao:adamw", {"rules": rules[name], name: gain}, name) for name, gain in pairs]
    literal = [("dcao-literal:adamw", {name: gain}, name) for name, gain in pairs]
    return tuple(arm(optimizer, own, reference="adamw", group=name) for optimizer, own, name in (*ours, *literal))


def _proposals() -> tuple[Arm, ...]:
    """The proposal's rule on the measure of ours, smoothed and settled."""
    plain = arm("dcao:adamw", {"rule": "proposal"}, reference="dcao:adamw", group="proposal")
    return (
        plain,
        *(
            arm("dcao:adamw", {"rule": "proposal", **changed}, reference=plain.name, group="proposal")
            for changed in PROPOSAL
        ),
    )


def _literals(size: str) -> tuple[Arm, ...]:
    """The proposal to the letter: its k, and its T at k = 10."""
    varied: list[dict[str, Setting]] = [{"k": k} for k in (5, 10, 20)]
    varied += [{"k": 10, "every": every} for every in LITERAL_PERIODS[size]]
    return tuple(arm("dcao-literal:adamw", settings, reference="adamw", group="literal") for settings in varied)


def _fixed(base: str) -> dict[str, Setting]:
    return {"weight_decay": SGD_DECAY} if base == "sgd" else {}
