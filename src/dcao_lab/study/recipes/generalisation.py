"""The curvature of final solutions next to how well they do on test data."""

from dcao_lab.study.config import Arm, StudyConfig
from dcao_lab.study.recipes.parts import FULL, SMALL, Amount, amount_of, arm, tasks, vary

SIZES = {
    "embedded": Amount(steps={"digits_mlp": 500, "digits_cnn": 400}, num_seeds=3),
    "small": SMALL,
    "full": FULL,
}
LEARNING_RATES = (1e-3, 1e-2, 1e-1)


def generalisation(size: str) -> StudyConfig:
    """The study at ``size``."""
    amount = amount_of(SIZES, size)
    return StudyConfig(
        name="generalisation",
        size=size,
        title="Flatness and generalisation",
        question="Are the solutions that DCAO finds flatter, and do flatter solutions do better on test data?",
        tasks=tasks(amount),
        arms=_arms(),
        seeds=amount.seeds,
        variations=vary("lr", *LEARNING_RATES),
        measure_solution=True,
    )


def _arms() -> tuple[Arm, ...]:
    return (
        arm("adamw"),
        arm("dcao:adamw", reference="adamw"),
        arm("adamw", schedule="cosine"),
        arm("dcao:adamw", {"decay": 0.0}, schedule="cosine", reference="adamw+cosine"),  # the schedule is its decay
        arm("dcao-literal:adamw", reference="adamw"),
        arm("sgd"),
        arm("dcao:sgd", reference="sgd"),
        arm("dcao-literal:sgd", reference="sgd"),
        arm("muon", reference="adamw"),
        arm("soap", reference="adamw"),
        arm("schedule_free_adamw", reference="adamw"),
        arm("lion", reference="adamw"),
    )
