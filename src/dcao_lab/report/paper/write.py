"""The files of a paper: the figures and tables that a study has the data for."""

from collections.abc import Iterator
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

from dcao_lab.report.figures.drawings import BarChart, Panel, Sheet
from dcao_lab.report.figures.sheets import sheets
from dcao_lab.report.numbers import Numbers, analyse
from dcao_lab.report.paper.bars import draw_bars
from dcao_lab.report.paper.canvas import RC, save
from dcao_lab.report.paper.latex import to_latex
from dcao_lab.report.paper.pages import pages
from dcao_lab.report.paper.panels import draw_panels
from dcao_lab.report.paper.ranks import draw_ranks
from dcao_lab.report.tables import cells, comparisons, costs, results
from dcao_lab.report.tables.base import Table
from dcao_lab.study import StudyResult


def write_paper(result: StudyResult, out: Path) -> list[Path]:
    r"""The paths of the figures (PDF and PNG) and tables (for ``\input``) that were written into ``out``.

    A figure or table that the study has no data for is left out. The same result gives the same bytes.
    """
    out.mkdir(parents=True, exist_ok=True)
    numbers = analyse(result)
    paths = []
    with style.context(["default", RC]):  # not as some matplotlibrc of the reader says
        for sheet in sheets(numbers):
            for page in pages(sheet):
                paths += save(_draw(page), out, page.name)
    for table in tables(numbers):
        paths.append(out / f"{table.name}.tex")
        paths[-1].write_text(to_latex(table), encoding="utf-8", newline="\n")
    return paths


def _draw(sheet: Sheet) -> Figure:
    panels = [drawing for drawing in sheet.drawings if isinstance(drawing, Panel)]
    charts = [drawing for drawing in sheet.drawings if isinstance(drawing, BarChart)]
    if panels:
        return draw_panels(panels, columns=sheet.columns, note=sheet.note)
    if charts[0].critical_difference is not None:
        return draw_ranks(charts[0])
    return draw_bars(charts, columns=sheet.columns, note=sheet.note)


def tables(numbers: Numbers) -> Iterator[Table]:
    """Each table of a paper that the study has rows for."""
    own_conditions = [c for c in numbers.comparisons if c.variation is None]
    found = [
        results.results(numbers, numbers.view.tasks),
        comparisons.comparisons(numbers, own_conditions or numbers.comparisons),
        *cells.tables(numbers),
        comparisons.untuned(numbers),
        results.robustness(numbers),
        costs.costs(numbers),
        costs.tunings(numbers),
    ]
    if numbers.overall is not None and numbers.overall.ranking is not None:
        found.append(comparisons.overall(numbers, numbers.overall))
    return (table for table in found if table.rows)
