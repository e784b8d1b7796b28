"""The sentence on the changes of an ablation."""

from collections.abc import Sequence

from dcao_lab.report import formats
from dcao_lab.report.analysis.changes import Change
from dcao_lab.report.numbers import Numbers

LEAST = 0.01  # a gain or a loss of less is none


def extremes(numbers: Numbers, found: Sequence[Change]) -> str:
    """How many changes help and how many harm, and the most of either."""
    if not found:
        return "No change can be held against what it changes yet."
    helps, harms = [one for one in found if one.median >= LEAST], [one for one in found if one.median <= -LEAST]
    share = f"{100 * LEAST:.0f}{formats.PERCENT}"
    said = [
        f"Of {formats.counted(len(found), 'change')} of DCAO the final metric is worse by more than {share} with "
        f"{len(harms)}, and better by more with {len(helps)}"
    ]
    said += [f"worst {_named(numbers, min(harms, key=lambda one: one.median))}"] if harms else []
    said += [f"best {_named(numbers, max(helps, key=lambda one: one.median))}"] if helps else []
    return "; ".join(said) + "."


def _named(numbers: Numbers, one: Change) -> str:
    return f"{numbers.title(one.arm)} ({formats.signed_share(one.median)})"
