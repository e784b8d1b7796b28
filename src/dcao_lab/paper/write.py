"""The files of a paper: the figures and tables that a study has the data for."""

from collections.abc import Iterator
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

from dcao_lab.paper import comparison_figures, solution_figures, tables, trace_figures, training_figures
from dcao_lab.paper.charts import draw_bars, draw_scatters
from dcao_lab.paper.drawings import Sheet
from dcao_lab.paper.gain_figures import gain_sheets
from dcao_lab.paper.latex import to_latex
from dcao_lab.paper.panels import draw_panels
from dcao_lab.paper.ranks import draw_ranks
from dcao_lab.paper.saving import save
from dcao_lab.paper.style import RC, LineStyle, styles
from dcao_lab.report.analysis.solutions import MEASURES
from dcao_lab.report.numbers import Numbers, analyse
from dcao_lab.study import StudyResult

Styles = dict[str, LineStyle]


def write_paper(result: StudyResult, out: Path) -> list[Path]:
    r"""The paths of the figures (PDF and PNG) and tables (for ``\input``) that were written into ``out``.

    A figure or table that the study has no data for is left out. The same result gives the same bytes.
    """
    out.mkdir(parents=True, exist_ok=True)
    numbers = analyse(result)
    return [*_write_figures(numbers, out), *_write_tables(numbers, out)]


def _write_figures(numbers: Numbers, out: Path) -> list[Path]:
    paths = []
    with style.context(["default", RC]):  # not as some matplotlibrc of the reader says
        for name, figure in _figures(numbers):
            paths += save(figure, out, name)
    return paths


def _write_tables(numbers: Numbers, out: Path) -> list[Path]:
    paths = []
    for table in tables.tables(numbers):
        path = out / f"{table.name}.tex"
        path.write_text(to_latex(table), encoding="utf-8", newline="\n")
        paths.append(path)
    return paths


def _figures(numbers: Numbers) -> Iterator[tuple[str, Figure]]:
    """One at a time, so that one is in memory at a time."""
    highlighted = {name for name, look in numbers.styles.items() if look.is_highlighted}
    looks = styles(numbers.view.study.arms, highlighted, numbers.leading)
    for name, sheet in _sheets(numbers, looks):
        if sheet.panels:
            yield name, draw_panels(sheet.panels, columns=sheet.columns, note=sheet.note)
    for name, bars in gain_sheets(numbers, looks):
        yield name, draw_bars(bars.charts, columns=bars.columns, note=bars.note)
    if (diagram := comparison_figures.rank_diagram(numbers)) is not None:
        yield "critical_difference", draw_ranks(diagram)
    for measure in MEASURES:
        if scatters := solution_figures.generalisation(numbers, looks, measure):
            yield f"generalisation_{measure}", draw_scatters(scatters, note=solution_figures.note(scatters))


def _sheets(numbers: Numbers, looks: Styles) -> Iterator[tuple[str, Sheet]]:
    yield "training_loss", training_figures.training_losses(numbers, looks)
    yield "validation_metric", training_figures.validation_metrics(numbers, looks)
    for axis in comparison_figures.varied_axes(numbers):
        yield f"robustness_{axis}", comparison_figures.robustness(numbers, looks, axis)
    yield "stability", trace_figures.stability(numbers, looks)
    yield "raw_stability", trace_figures.raw_stability(numbers, looks)
    yield "preconditioned_stability", trace_figures.preconditioned_stability(numbers, looks)
    yield "sharpness", trace_figures.sharpness(numbers, looks)
    yield "profiles", comparison_figures.profiles(numbers, looks)
    yield "time_to_target", comparison_figures.times_to_target(numbers, looks)
    yield "spectral_densities", solution_figures.densities(numbers, looks)
