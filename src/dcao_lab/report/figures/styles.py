"""How each arm is drawn, on a page and on paper: colour and marker tell arms apart, a dash what DCAO does not steer."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
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
PALE_EDGE_COLOR = Color(page="rgba(208, 53, 69, 0.35)", paper="#c4c4c4")
DASH = (4, 1.5)
MEANING = "Solid lines and filled markers: steered by DCAO; dashed and hollow: not."
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
        dash: Lengths of its dashes and gaps, in widths of the line; empty: solid, for what DCAO steers. It tells
            nothing else, and so means the same in every study.
        marker: One of :data:`MARKERS`; filled where the line is solid.
        is_highlighted: Whether it is one that the study is about; the others are thin.
        is_backdrop: Whether it is no arm's course but what one is held against: wide, and behind all others.
    """

    arm: str
    title: str
    color: Color
    dash: tuple[float, ...]
    marker: str
    is_highlighted: bool
    is_backdrop: bool = False

    @property
    def width(self) -> float:
        """Width of its line, relative to that of a highlighted one."""
        if self.is_backdrop:
            return 3.0
        return 1.0 if self.is_highlighted else 0.55


Styles = dict[str, Style]


def styles(study: StudyConfig, leading: Collection[str]) -> Styles:
    """The style of each arm by its name: colour is the bare optimizer underneath, or else the arm.

    What DCAO steers and what it is compared with are highlighted; in a study of few arms, all are. Of the others only
    those that crowded figures show (``leading``) have a colour. Arms of one colour have markers of their own, as far as
    these last.
    """
    highlighted = _highlighted(study)
    colors = _colors([arm for arm in study.arms if arm.name in {*highlighted, *leading}], leading)
    markers = told_apart(study.arms, leading, len(MARKERS), lambda arm: colors.get(arm.name, GREY).page)
    return {
        arm.name: Style(
            arm=arm.name,
            title=arm.title,
            color=colors.get(arm.name, GREY),
            dash=() if get_baseline(arm.optimizer).is_wrapped else DASH,
            marker=MARKERS[markers[arm.name]],
            is_highlighted=arm.name in highlighted,
        )
        for arm in study.arms
    }


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
        numbers = told_apart(arms, leading, len(COLORS))
    return {name: COLORS[number % len(COLORS)] for name, number in numbers.items()}


def told_apart(
    arms: Iterable[Arm], leading: Collection[str], num_looks: int, other_look: Callable[[Arm], str] | None = None
) -> dict[str, int]:
    """The number of each arm's look, such as its colour, of ``num_looks`` that there are.

    As far as they last, they are different among the leading arms, then within each group, then among the arms that
    ``other_look`` says have another look in common.

    One colour for each group was tried: in the figure of a group every line then had that colour.

    Example:
        >>> arms = [Arm(name=name, title=name, optimizer="sgd", group=name[0]) for name in ("a1", "a2", "b1", "b2")]
        >>> told_apart(arms, leading=["a1", "b1"], num_looks=2)
        {'a1': 0, 'b1': 1, 'a2': 1, 'b2': 0}
    """
    used: Counter[tuple[str, int]] = Counter()
    found = {}
    for arm in sorted(arms, key=lambda arm: arm.name not in leading):
        figures = [*(["leading arms"] if arm.name in leading else []), f"group {arm.group}"]
        figures += ["all arms"] if other_look is None else [f"look {other_look(arm)}", "all arms"]
        look = min(range(num_looks), key=lambda number: [used[figure, number] for figure in figures])
        used.update((figure, look) for figure in figures)
        found[arm.name] = look
    return found
