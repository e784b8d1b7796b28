"""What each measured quantity brings to the default: s, l, the loss, and how far batches agree, each left out."""

from dcao_lab.config import Setting
from dcao_lab.study.config import Arm, StudyConfig
from dcao_lab.study.recipes.ablation import NO_LIMIT
from dcao_lab.study.recipes.parts import amount_of, arm, tasks
from dcao_lab.study.recipes.real import LOWEST_LR, swept_by_lr, wrapped
from dcao_lab.study.recipes.transfer import SIZES

LEFT_OUT: dict[str, Setting] = {
    "target": NO_LIMIT,  # s sets no limit; in the range test it is still a witness
    "max_relative_step": NO_LIMIT,
    "watched": 0.0,  # the loss does not end the rise
    "agreement": "ignored",
}


def quantities(size: str) -> StudyConfig:
    """The study at ``size``, on the workloads and against the sweeps of ``transfer``, whose runs it shares."""
    amount = amount_of(SIZES, size)
    return StudyConfig(
        name="quantities",
        size=size,
        title="What each measured quantity brings",
        question="What does the default lose without one of its measurements?",
        tasks=tasks(amount, is_budgeted=True),
        arms=(*swept_by_lr(), *wrapped(), *_left_out()),
        seeds=amount.seeds,
    )


def _left_out() -> tuple[Arm, ...]:
    """The default around each base, without one of the quantities; held against the sweeps as the whole is."""
    return tuple(
        arm(f"dcao:{base}", {name: value}, reference=base, group="left out")
        for base in LOWEST_LR
        for name, value in LEFT_OUT.items()
    )
