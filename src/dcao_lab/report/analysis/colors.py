"""Which arm has which of a few colours: those that stand in one figure differ, as far as there are colours."""

from collections import Counter
from collections.abc import Collection, Sequence

from dcao_lab.study.config import Arm


def color_numbers(arms: Sequence[Arm], leading: Collection[str], num_colors: int) -> dict[str, int]:
    """The number of each arm's colour: different among the leading arms, and in each group.

    A colour a group was tried: in the figure of a group every line then had that one colour.

    Example:
        >>> arms = [Arm(name=name, title=name, optimizer="sgd", group=name[0]) for name in ("a1", "a2", "b1", "b2")]
        >>> color_numbers(arms, leading=["a1", "b1"], num_colors=2)
        {'a1': 0, 'b1': 1, 'a2': 1, 'b2': 0}
    """
    used: Counter[tuple[str, int]] = Counter()
    found = {}
    for arm in sorted(arms, key=lambda arm: arm.name not in leading):
        figures = [*(["leading arms"] if arm.name in leading else []), f"group {arm.group}", "all arms"]
        color = min(range(num_colors), key=lambda number: [used[figure, number] for figure in figures])
        used.update((figure, color) for figure in figures)
        found[arm.name] = color
    return found
