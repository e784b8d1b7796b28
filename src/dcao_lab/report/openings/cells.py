"""The opening of a study of cells: how many each arm that nobody tuned has within the goal."""

from dataclasses import replace

from dcao_lab.report import formats
from dcao_lab.report.analysis.cells import ArmCells
from dcao_lab.report.analysis.untuned import LIMITS
from dcao_lab.report.analysis.view import is_default
from dcao_lab.report.figures.drawings import Bar, BarChart
from dcao_lab.report.figures.styles import GREY
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening, Tile
from dcao_lab.report.sections.base import Section, filled, numbered
from dcao_lab.report.words import cells as words
from dcao_lab.study.config import Arm
from dcao_lab.study.result import StudyResult
from dcao_lab.workloads import get_workload

CAPTION = (
    "A cell is one comparison: a workload, and a sweep of the bare optimizer over learning rates, constant or with "
    f"warmup and cosine. It is within the goal where the one run is worse than the sweep's best by at most {LIMITS}; "
    "medians over seeds. DCAO is held against the sweeps of what it wraps, others against AdamW's. Grey: without DCAO."
)
MOST_TILES = 2  # of DCAO, beside the best without


def cells(_: StudyResult, numbers: Numbers) -> Opening:
    """Bars of cells, the most first."""
    counted = sorted((one for one in numbers.cells if one.num_cells), key=_share, reverse=True)
    bars = [_bar(numbers, one) for one in counted]
    chart = BarChart(title="Cells within the goal of a sweep", label="share of the cells", bars=bars, is_share=True)
    section = Section(
        key="cells",
        heading="One run that nobody tuned, against a sweep",
        caption=CAPTION,
        figures=numbered("cells", [chart] if bars else []),
    )
    note = " ".join(_missed(numbers, one) for one in counted if one.misses and is_default(_arm(numbers, one)))
    return Opening(
        verdict=words.in_short(numbers), tiles=_tiles(numbers, counted), sections=filled([section]), note=note
    )


def _arm(numbers: Numbers, one: ArmCells) -> Arm:
    return numbers.view.study.arm(one.arm)


def _missed(numbers: Numbers, one: ArmCells) -> str:
    titles = "; ".join(get_workload(task).info.title for task in one.misses)
    return f"{numbers.title(one.arm)} misses a cell or both on {titles}."


def _share(one: ArmCells) -> float:
    return one.num_within / one.num_cells


def _bar(numbers: Numbers, one: ArmCells) -> Bar:
    style = numbers.styles[one.arm]
    label = f"{numbers.title(one.arm)}: {one.num_within} of {one.num_cells}"
    return Bar(style=style if one.is_wrapped else replace(style, color=GREY), label=label, value=_share(one))


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
