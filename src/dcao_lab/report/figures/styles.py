"""How each arm is drawn, on a page and on paper: its colour, dash and marker, chosen once for a study."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from dcao_lab.baselines import get_baseline
from dcao_lab.study.config import Arm, StudyConfig


@dataclass(frozen=True, kw_only=True)
class Color:
    """One colour in the shades that suit each background.

    Attributes:
        page: Has a contrast of at least 3:1 with the page's white and with its black.
        paper: Can be told from the others on white by colour-blind readers too.
    """

    page: str
    paper: str


# On paper: Okabe and Ito 2008, without its yellow, which does not show on white, and Tol's wine (2021, "muted").
COLORS = (
    Color(page="#2f7de1", paper="#0072B2"),
    Color(page="#d9631e", paper="#D55E00"),
    Color(page="#16977a", paper="#009E73"),
    Color(page="#d1498f", paper="#CC79A7"),
    Color(page="#a5740a", paper="#E69F00"),
    Color(page="#0e8fa8", paper="#56B4E9"),
    Color(page="#7a8a1e", paper="#000000"),
    Color(page="#8a63d2", paper="#882255"),
)
GREY = Color(page="#7a7f87", paper="#777777")
EDGE_COLOR = Color(page="#d03545", paper="#777777")
DASHES = ((4, 1.5), (1, 1.5), (4, 1.5, 1, 1.5), (2, 2), (1, 1), (6, 2))
MARKERS = (
    "circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "triangle-left", "triangle-right",
    "star",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Style:
    """How an arm is drawn in every figure, so that it is recognised by its colour and without it.

    Attributes:
        arm: Its name.
        title: What the report calls it.
        color: Its colour.
        dash: Lengths of its dashes and gaps, in widths of the line; empty: solid, for what DCAO steers.
        marker: One of :data:`MARKERS`.
        is_highlighted: Whether it is one that the study is about; the others are thin.
    """

    arm: str
    title: str
    color: Color
    dash: tuple[float, ...]
    marker: str
    is_highlighted: bool

    @property
    def width(self) -> float:
        """Width of its line, relative to that of a highlighted one."""
        return 1.0 if self.is_highlighted else 0.55


Styles = dict[str, Style]


def styles(study: StudyConfig, leading: Collection[str]) -> Styles:
    """The style of each arm by its name: colour is the bare optimizer underneath, or else the arm.

    What DCAO steers and what it is compared with are highlighted; in a study of few arms, all are. Of the others only
    those that crowded figures show (``leading``) have a colour.
    """
    highlighted = _highlighted(study)
    colors = _colors([arm for arm in study.arms if arm.name in {*highlighted, *leading}], leading)
    seen: Counter[Color | None] = Counter()
    found = {}
    for index, arm in enumerate(study.arms):
        color, is_wrapped = colors.get(arm.name, GREY), get_baseline(arm.optimizer).is_wrapped
        alike = color if is_wrapped else None
        number = seen[alike] - is_wrapped  # the first of a colour that DCAO steers is solid
        seen[alike] += 1
        found[arm.name] = Style(
            arm=arm.name,
            title=arm.title,
            color=color,
            dash=DASHES[number % len(DASHES)] if number >= 0 else (),
            marker=MARKERS[index % len(MARKERS)],
            is_highlighted=arm.name in highlighted,
        )
    return found


def _highlighted(study: StudyConfig) -> set[str]:
    if len(study.arms) <= len(COLORS):
        return {arm.name for arm in study.arms}
    wrapped = [arm for arm in study.arms if get_baseline(arm.optimizer).is_wrapped]
    return {arm.name for arm in wrapped} | {arm.reference for arm in wrapped if arm.reference is not None}


def _colors(arms: Sequence[Arm], leading: Collection[str]) -> dict[str, Color]:
    baselines = {arm.name: get_baseline(arm.optimizer) for arm in arms}
    kinds = Counter((baseline.family, baseline.is_wrapped) for baseline in baselines.values())
    if max(kinds.values(), default=0) <= 1:  # one bare and one steered of each: they share a colour
        families = list(dict.fromkeys(baseline.family for baseline in baselines.values()))
        numbers = {name: families.index(baseline.family) for name, baseline in baselines.items()}
    else:
        numbers = color_numbers(arms, leading, len(COLORS))
    return {name: COLORS[number % len(COLORS)] for name, number in numbers.items()}


def color_numbers(arms: Iterable[Arm], leading: Collection[str], num_colors: int) -> dict[str, int]:
    """The number of each arm's colour: as far as they last, different among the leading arms and within each group.

    One colour for each group was tried: in the figure of a group every line then had that colour.

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
