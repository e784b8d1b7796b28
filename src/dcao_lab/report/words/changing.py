"""The words on the changes of an ablation."""

from collections.abc import Sequence

from dcao_lab.report import formats
from dcao_lab.report.analysis.changes import Change
from dcao_lab.report.numbers import Numbers

LEAST = 0.01  # a gain or a loss of less is none
PARTS = ", "  # between the parts of a title


def extremes(numbers: Numbers, found: Sequence[Change]) -> str:
    """How many changes harm, matter little and help, and the most of either."""
    if not found:
        return "No change can be held against what it changes yet."
    ordered = sorted(found, key=lambda one: one.median)
    harms = [one for one in ordered if one.median <= -LEAST]
    helps = [one for one in reversed(ordered) if one.median >= LEAST]
    groups = {
        f"worse by more than {100 * LEAST:.0f}{formats.PERCENT}": (len(harms), harms[:1]),
        "hardly different": (len(found) - len(harms) - len(helps), []),
        "better": (len(helps), helps[:1]),
    }
    said = [
        f"{word} with {number}{''.join(f' (most with {summary(numbers, one)})' for one in most)}"
        for word, (number, most) in groups.items()
    ]
    return f"Of {formats.counted(len(found), 'change')} to DCAO the final metric is {formats.listed(said)}."


def summary(numbers: Numbers, one: Change) -> str:
    """What differs from the reference, and the median gain."""
    shared = numbers.title(one.reference).split(PARTS)
    title = PARTS.join(part for part in numbers.title(one.arm).split(PARTS) if part not in shared)
    return f"{title or numbers.title(one.arm)}: {formats.signed_share(one.median)}"
