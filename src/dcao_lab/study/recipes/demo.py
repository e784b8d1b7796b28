"""The demo: what DCAO promises, in a few minutes of two cores."""

from dcao_lab.study.config import Arm, StudyConfig
from dcao_lab.study.recipes.parts import Amount, arm, tasks, vary

AMOUNT = Amount(steps={"digits_mlp": 400, "digits_cnn": 300, "pydoc_gpt": 300}, num_seeds=3, num_evaluations=5)
"""As in the robustness study, which has two of them. In runs of under 165 steps DCAO's rise takes a large part."""

LEARNING_RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def demo() -> StudyConfig:
    """AdamW and SGD, and DCAO around each, from seven initial learning rates; nothing is tuned."""
    return StudyConfig(
        name="demo",
        size="embedded",
        title="DCAO finds the learning rate",
        question="DCAO wraps an optimizer and sets its learning rate as it trains. Is one run as good as a sweep?",
        tasks=tasks(AMOUNT, is_budgeted=True),
        arms=_arms(),
        seeds=AMOUNT.seeds,
        variations=vary("lr", *LEARNING_RATES),
    )


def _arms() -> tuple[Arm, ...]:
    return tuple(each for base in ("adamw", "sgd") for each in (arm(base), arm(f"dcao:{base}", reference=base)))
