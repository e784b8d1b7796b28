"""Colours, dashes and symbols of a study's arms."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from dcao_lab.baselines import get_baseline
from dcao_lab.report.analysis.colors import color_numbers
from dcao_lab.study.config import Arm, StudyConfig

FAMILY_COLORS = {"adamw": "#2f7de1", "sgd": "#d9631e"}
PALETTE = (
    "#8a63d2", "#16977a", "#d1498f", "#a5740a", "#2f7de1", "#d9631e", "#0e8fa8", "#7a8a1e",
)  # each at least 3:1 on the page's white and on its black  # fmt: skip
GREY = "#7a7f87"
DASHES = ("4px,4px", "1px,3px", "8px,3px", "8px,3px,2px,3px", "2px,2px", "12px,4px")
SYMBOLS = (
    "circle-open",
    "square-open",
    "diamond-open",
    "triangle-up-open",
    "x-thin-open",
    "cross-thin-open",
    "star-open",
)
MOST_COLORS = len(PALETTE)


@dataclass(frozen=True, kw_only=True)
class Style:
    """How an arm is drawn, everywhere.

    Attributes:
        arm: Its name.
        title: What the report calls it.
        color: As CSS has it.
        dash: As SVG has it; ``solid`` for what DCAO steers.
        symbol: Of a point, as plotly names it.
        is_highlighted: Whether it is one that the study is about; the others are grey.
    """

    arm: str
    title: str
    color: str
    dash: str
    symbol: str
    is_highlighted: bool

    def line(self, width: float = 2.0, **changes: Any) -> dict[str, Any]:
        """Its line; one that is not highlighted is thinner."""
        return {
            "color": self.color,
            "width": width if self.is_highlighted else 0.6 * width,
            "dash": self.dash,
            **changes,
        }

    def marker(self, size: float = 8.0) -> dict[str, Any]:
        """Its point."""
        return {"color": self.color, "size": size, "symbol": self.symbol, "line": {"width": 2, "color": self.color}}


Styles = dict[str, Style]


def grey_first(arms: Iterable[str], styles: Styles) -> list[str]:
    """The arms in an order to draw them: what is highlighted lies on top."""
    return sorted(arms, key=lambda arm: styles[arm].is_highlighted)


def styles(study: StudyConfig, leading: Collection[str]) -> Styles:
    """The style of each arm: colour is the bare optimizer underneath, or else the arm.

    What DCAO steers and what it is compared with are highlighted; in a study of few arms, all are.
    """
    chosen = _highlighted(study)
    colors = _colors(chosen, leading)
    seen: Counter[str] = Counter()
    found = {}
    for arm in study.arms:
        color = colors.get(arm.name, GREY)
        wrapped = get_baseline(arm.optimizer).is_wrapped
        number = seen[f"{color} {wrapped}"]
        seen[f"{color} {wrapped}"] += 1
        found[arm.name] = Style(
            arm=arm.name,
            title=arm.title,
            color=color,
            dash="solid" if wrapped and number == 0 else DASHES[(number - wrapped) % len(DASHES)],
            symbol="circle" if wrapped and number == 0 else SYMBOLS[(number - wrapped) % len(SYMBOLS)],
            is_highlighted=arm in chosen,
        )
    return found


def _highlighted(study: StudyConfig) -> list[Arm]:
    if len(study.arms) <= MOST_COLORS:
        return list(study.arms)
    wrapped = {arm.name for arm in study.arms if get_baseline(arm.optimizer).is_wrapped}
    references = {arm.reference for arm in study.arms if arm.name in wrapped}
    return [arm for arm in study.arms if arm.name in wrapped | references]


def _colors(arms: list[Arm], leading: Collection[str]) -> dict[str, str]:
    families = Counter((get_baseline(a.optimizer).family, get_baseline(a.optimizer).is_wrapped) for a in arms)
    if max(families.values(), default=0) <= 1:  # one bare and one steered of each: they share a colour
        return _by_key({arm.name: get_baseline(arm.optimizer).family for arm in arms})
    return {name: PALETTE[number] for name, number in color_numbers(arms, leading, len(PALETTE)).items()}


def _by_key(keys: dict[str, str]) -> dict[str, str]:
    others = [key for key in dict.fromkeys(keys.values()) if key not in FAMILY_COLORS]
    free = [color for color in PALETTE if color not in FAMILY_COLORS.values()]
    colors = {**FAMILY_COLORS, **{key: free[i % len(free)] for i, key in enumerate(others)}}
    return {name: colors[key] for name, key in keys.items()}
