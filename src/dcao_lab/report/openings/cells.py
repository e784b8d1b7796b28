"""The opening of a study of cells: how many each arm that nobody tuned has within the goal."""

from dcao_lab.report import formats
from dcao_lab.report.analysis.cells import ArmCells
from dcao_lab.report.analysis.untuned import LIMITS
from dcao_lab.report.figures.drawings import Bar, BarChart
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening, Tile
from dcao_lab.report.sections.base import Section, filled, numbered
from dcao_lab.report.words import cells as words
from dcao_lab.study.result import StudyResult

CAPTION = (
    "A cell is a workload and a sweep of the bare optimizer, with a constant lr or with warmup and cosine. An arm has "
    f"it where the median of its one run a seed is at most so much worse than the sweep's best: {LIMITS}. Arms of "
    "DCAO are held against the sweeps of their own base, the others against AdamW's."
)
MOST_TILES = 2  # of DCAO, beside the best without


def cells(_: StudyResult, numbers: Numbers) -> Opening:
    """Bars of cells, the most first."""
    counted = sorted((one for one in numbers.cells if one.num_cells), key=_share, reverse=True)
    bars = [_bar(numbers, one) for one in counted]
    chart = BarChart(
        title="Cells within the goal of a sweep",
        label="share of the cells",
        bars=bars,
        is_share=True,
        limits=(0.0, 1.1),
        is_cut=True,
    )
    section = Section(key="cells", heading="One run that nobody tuned, against a sweep", caption=CAPTION,
                      figures=numbered("cells", [chart]))  # fmt: skip
    return Opening(
        verdict=words.in_short(numbers), tiles=_tiles(numbers, counted), sections=filled([section] if bars else [])
    )


def _share(one: ArmCells) -> float:
    return one.num_within / one.num_cells


def _bar(numbers: Numbers, one: ArmCells) -> Bar:
    return Bar(style=numbers.styles[one.arm], value=_share(one), text=f"{one.num_within} of {one.num_cells}")


def _tiles(numbers: Numbers, counted: list[ArmCells]) -> list[Tile]:
    own = [one for one in counted if one.is_wrapped][:MOST_TILES]
    others = [one for one in counted if not one.is_wrapped][:1]
    return [_tile(numbers, one, numbers.title(one.arm)) for one in own] + [
        _tile(numbers, one, f"best without DCAO: {numbers.title(one.arm)}") for one in others
    ]


def _tile(numbers: Numbers, one: ArmCells, label: str) -> Tile:
    swept = formats.listed([numbers.title(cell.other) for cell in one.tasks[0].cells])
    whole = f"all cells of {one.num_whole} of {formats.counted(one.num_tasks, 'workload')}"
    return Tile(label=label, value=f"{one.num_within} of {one.num_cells} cells", detail=f"{whole}; swept: {swept}")
