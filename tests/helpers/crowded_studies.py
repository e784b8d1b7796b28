"""Made-up studies of many arms, for the tests of what crowded figures show."""

from dcao_lab.study import Arm, Variation
from helpers.report_studies import ADAMW, DCAO_ADAMW, finals, result_of, study

RATES = (1e-5, 1e-3, 1e-1)
VARIATIONS = tuple(Variation(axis="lr", value=lr) for lr in RATES)
LITERAL = Arm(
    name="literal", title="literal DCAO(AdamW)", optimizer="dcao-literal:adamw", reference="adamw", group="literal"
)


def _variant(number, name=None):
    name = name or f"dcao-{number}"
    group = "rules" if number < 6 else "target"
    return Arm(name=name, title=f"DCAO(AdamW), x={name}", optimizer="dcao:adamw", reference="dcao:adamw", group=group)


MANY = (ADAMW, DCAO_ADAMW, *(_variant(number) for number in range(20)), LITERAL)


def ablation(*, is_doubled=False):
    """AdamW, DCAO and 21 variants of it from three learning rates; the higher its number, the better a variant."""
    arms = (*MANY, _variant(19, "dcao-19 again")) if is_doubled else MANY
    config = study(*arms, variations=VARIATIONS)
    groups = [
        finals(arm, [_final(arm) + 0.01 * seed for seed in range(3)], variation=v, lr=v.value)
        for v in VARIATIONS
        for arm in arms
    ]
    return result_of(config, *groups)


def _final(arm):
    number = arm.name.removeprefix("dcao-").removesuffix(" again")
    return 0.5 + 0.02 * int(number) if number.isdigit() else {"adamw": 0.3, "dcao:adamw": 0.49, "literal": 0.2}[number]


def families_study():
    """Two learning rates, each with AdamW and DCAO around it."""
    arms = []
    for group in ("slow", "fast"):
        arms.append(Arm(name=f"adamw {group}", title=f"AdamW, {group}", optimizer="adamw", group=group))
        arms.append(
            Arm(name=f"dcao {group}", title=f"DCAO, {group}", optimizer="dcao:adamw", reference=f"adamw {group}",
                group=group)
        )  # fmt: skip
    return study(*arms)
