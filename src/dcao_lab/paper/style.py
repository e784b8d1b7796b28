"""How the paper's figures look: sizes, fonts, and the line that stands for an arm."""

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, replace

from dcao_lab.baselines import get_baseline
from dcao_lab.report.analysis.colors import color_numbers
from dcao_lab.study import Arm

ONE_COLUMN = 3.25  # inches, of a two-column paper
TWO_COLUMNS = 6.75
PIXELS_PER_INCH = 200  # twice a screen's 100: the documentation shows these pictures at half their size

RC = {
    "font.family": "DejaVu Sans",  # matplotlib brings it, so the pictures are the same wherever they are made
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.6,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "pdf.fonttype": 42,  # TrueType, as publishers ask; the default type 3 is refused by some
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}

# Okabe and Ito 2008, without its yellow, which does not show on white, and Tol's wine (2021, "muted"): as many as a
# crowded figure shows arms.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ((0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
SOLID = "-"
EDGE_COLOR = "#777777"


@dataclass(frozen=True, kw_only=True)
class LineStyle:
    """The line and marker of an arm: told apart by colour, and without it.

    Attributes:
        color: Colour.
        dash: matplotlib's line style; what DCAO steers is solid.
        marker: matplotlib's marker.
        width: Of the line, in points; thinner for arms that a study of many is not about.
    """

    color: str
    dash: object
    marker: str
    width: float = 1.3


def styles(arms: Sequence[Arm], highlighted: Set[str], leading: Collection[str] = ()) -> dict[str, LineStyle]:
    """The style of each arm by its name, the same in every figure of a study; those not ``highlighted`` are thin.

    Where there is one bare and one steered arm of each optimizer, they share its colour.
    """
    kinds = [(get_baseline(arm.optimizer).family, get_baseline(arm.optimizer).is_wrapped) for arm in arms]
    has_pairs = len(set(kinds)) == len(kinds)
    families = list(dict.fromkeys(family for family, _ in kinds))
    numbers = color_numbers(arms, leading, len(COLORS))
    return {
        arm.name: replace(
            _style(index, families.index(family) if has_pairs else numbers[arm.name], is_wrapped),
            width=1.3 if arm.name in highlighted else 0.7,
        )
        for index, (arm, (family, is_wrapped)) in enumerate(zip(arms, kinds, strict=True))
    }


def _style(index: int, color: int, is_wrapped: bool) -> LineStyle:
    return LineStyle(
        color=COLORS[color % len(COLORS)],
        dash=SOLID if is_wrapped else DASHES[index % len(DASHES)],
        marker=MARKERS[index % len(MARKERS)],
    )


def literal(text: str) -> str:
    r"""Text that matplotlib shows as it is; two dollar signs would be a formula.

    Example:
        >>> print(literal("$5 or $6"))
        \$5 or \$6
    """
    return text.replace("$", r"\$")
