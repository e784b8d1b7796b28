"""Sentences on runs that nobody tuned."""

from statistics import median

from dcao_lab.report import formats
from dcao_lab.report.analysis.untuned import LIMITS, Untuned
from dcao_lab.report.numbers import Numbers


def untuned(numbers: Numbers) -> list[str]:
    """How often each wrapped arm is as good from anywhere as the best of each sweep."""
    by_arm: dict[str, list[Untuned]] = {}
    for one in numbers.untuned:
        by_arm.setdefault(one.arm, []).append(one)
    return [_sentence(numbers, arm, found) for arm, found in by_arm.items()]


def _sentence(numbers: Numbers, arm: str, found: list[Untuned]) -> str:
    lrs = [lr for one in found for lr, _ in one.starts]
    against = []
    for other in dict.fromkeys(one.other for one in found):
        own = [one for one in found if one.other == other]
        swept = max(one.num_swept for one in own)
        against.append(
            f"the best of {swept} with {numbers.styles[other].title} on {sum(one.is_within for one in own)} of "
            f"{formats.counted(len(own), 'workload')}"
        )
    cost = median(one.cost_ratio for one in found)
    first, last = formats.learning_rate(min(lrs)), formats.learning_rate(max(lrs))
    return (
        f"Untuned, {numbers.styles[arm].title} is, from the worst initial learning rate between {first} and {last}, "
        f"as good as {formats.listed(against)} (to {LIMITS}); such "
        f"a sweep costs {formats.significant(cost)} times the one run."
    )
