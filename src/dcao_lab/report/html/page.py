"""The page of a study; every number on it is in the ``data.json`` beside it."""

import base64
import gzip
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.utils import PlotlyJSONEncoder

from dcao_lab.errors import LabError
from dcao_lab.files import jsontext
from dcao_lab.files.plotly_basic import plotly_basic
from dcao_lab.files.whole import write_whole
from dcao_lab.report import formats
from dcao_lab.report.analysis.spread import spread_words
from dcao_lab.report.analysis.view import Place, spelled
from dcao_lab.report.figures.drawings import BarChart, Panel
from dcao_lab.report.figures.styles import MEANING, Style
from dcao_lab.report.html.plots import figure
from dcao_lab.report.html.tables import Context, table_context
from dcao_lab.report.numbers import Numbers, analyse
from dcao_lab.report.openings import opening_of
from dcao_lab.report.openings.base import Opening
from dcao_lab.report.parquet import write_tables
from dcao_lab.report.sections.base import Section
from dcao_lab.report.sections.overview import certainty, closing, overview
from dcao_lab.report.sections.task import task_sections
from dcao_lab.report.tables import runs
from dcao_lab.report.tables.results import results
from dcao_lab.report.words import crowding
from dcao_lab.report.words.comparing import task_sentences
from dcao_lab.report.words.headlines import headlines
from dcao_lab.study.config import StudyConfig
from dcao_lab.study.result import StudyResult

HERE = Path(__file__).parent
PAGE = "index.html"
DATA = "data.json"
TABLES = "tables"
GLYPHS = {"circle": "●○", "square": "■□", "triangle-up": "▲△", "diamond": "◆◇", "triangle-down": "▼▽", "cross": "✚✙",
          "x": "✖✕", "triangle-left": "◀◁", "triangle-right": "▶▷", "star": "★☆"}  # fmt: skip
"""The markers of plotly as text, filled and open."""


def write_study_report(result: StudyResult, out: Path) -> tuple[Path, str]:
    """Write the page, its data and its tables into ``out``; the page's path, and the verdict it opens with.

    Raises:
        LabError: No run of the study is there.
    """
    if not result.runs:
        raise LabError("there are no finished runs to report on; run some first")
    out.mkdir(parents=True, exist_ok=True)
    context = build_context(result)
    write_whole(out / DATA, jsontext.dumps(context) + "\n")
    write_tables(result, out / TABLES)
    write_whole(out / PAGE, render(context))
    verdict: str = context["opening"]["verdict"]
    return out / PAGE, verdict


def render(context: Context) -> str:
    """The page as one HTML text with everything it needs inside."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    by_task = [section for task in context["tasks"] for section in task["sections"]]
    sections = [*context["opening"]["sections"], *context["sure"], *context["overview"], *by_task]
    figures = {panel["id"]: panel["figure"] for section in sections for panel in section["figures"]}
    parts = {name: (HERE / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    template = environment.get_template("template.html")
    drawn = json.dumps(figures, separators=(",", ":"))
    return template.render(page=context, figures=_packed(drawn), plotly=_packed(plotly_basic()), **parts)


def _packed(text: str) -> str:
    """The text gzipped, in base64; equal texts give equal ones."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def build_context(result: StudyResult) -> Context:
    """Everything the page shows, as JSON has it."""
    numbers = analyse(result)
    study = result.study
    opening = opening_of(result, numbers)
    context = {
        "title": study.title,
        "question": study.question,
        "lead": _lead(result, numbers),
        "opening": _opening(numbers, opening),
        "headlines": [line for line in headlines(numbers) if line != opening.verdict],
        "legend": [_legend(numbers.styles[arm.name]) for arm in study.arms],
        "spread": spread_words(
            len(found.values) for place, found in numbers.results.items() if place.variation is None
        ),
        "meaning": MEANING,
        "crowd": _crowd(numbers),
        "sure": [_section(numbers, section, "all") for section in certainty(numbers)],
        "overview": [_section(numbers, section, "all") for section in overview(numbers)],
        "tasks": [_task(numbers, task, f"t{number}") for number, task in enumerate(numbers.view.tasks)],
        "closing": [_section(numbers, section, "end") for section in closing(numbers)],
        "runs": table_context(runs.all_runs(result, numbers)),
        "missing": table_context(runs.missing(result)),
        "provenance": runs.origins(result),
        "study": study.to_dict(),
        "numbers": _plain({**_numbers(numbers), "opening": opening.numbers}),
    }
    found: Context = json.loads(json.dumps(context, cls=PlotlyJSONEncoder))  # arrays and tuples become lists
    return found


def _opening(numbers: Numbers, opening: Opening) -> Context:
    return {
        "verdict": opening.verdict,
        "tiles": [vars(tile) for tile in opening.tiles],
        "sections": [_section(numbers, section, "first") for section in opening.sections],
        "note": opening.note,
    }


def _section(numbers: Numbers, section: Section, prefix: str) -> Context:
    """A section as the template takes it; figures without a value and tables without a row are left out.

    Lines have their names at their ends; what has points alone has a legend.
    """
    drawn = {name: drawing for name, drawing in section.figures.items() if not drawing.is_empty}
    tables = [table_context(table) for table in section.tables if table.rows]
    if len(tables) == 1 and not drawn:
        tables[0]["is_folded"] = False  # the section itself is
    return {
        **vars(section),
        "figures": [_figure(f"{prefix}-{name}", drawing) for name, drawing in drawn.items()],
        "legend": [_legend(style) for arm, style in numbers.styles.items() if arm in _arms_of_clouds(drawn.values())],
        "tables": tables,
    }


def _arms_of_clouds(drawn: Iterable[Panel | BarChart]) -> set[str]:
    """The arms of the panels that have points alone, of several arms."""
    panels = [one.series for one in drawn if isinstance(one, Panel) and len(one.series) > 1]
    clouds = [every for every in panels if all(series.shape == "points" for series in every)]
    return {series.style.arm for every in clouds for series in every}


def _figure(key: str, drawing: Panel | BarChart) -> Context:
    drawn = figure(drawing)
    return {"id": key, "title": drawing.title, "figure": drawn, "height": drawn["layout"].get("height")}


def _lead(result: StudyResult, numbers: Numbers) -> str:
    study = result.study
    counts: Counter[str] = Counter(planned.phase for planned, _ in result.runs)
    named = {"final": "that count", "trial": "that tuned", "watched": "that were watched"}
    spelled_counts = [f"{formats.count(counts[phase])} {purpose}" for phase, purpose in named.items() if counts[phase]]
    missing = f"; {formats.count(len(result.missing))} are missing" if result.missing else ""
    return (
        f"Study {study.name}, size {study.size}: {formats.counted(len(study.arms), 'arm')} on "
        f"{formats.counted(len(numbers.view.tasks), 'workload')}, "
        f"{_seeds(study)}; runs: {formats.listed(spelled_counts)}{missing}."
    )


def _seeds(study: StudyConfig) -> str:
    most = len(study.seeds)
    fewest = min((min(v.num_seeds or most, most) for v in study.variations), default=most)
    return formats.counted(most, "seed") if fewest == most else f"{fewest} to {most} seeds"


def _legend(style: Style) -> Context:
    dash = " ".join(f"{2 * length:g}" for length in style.dash)
    strong = style.is_highlighted
    shown = {"arm": style.arm, "title": style.title, "color": style.color.page, "dash": dash, "strong": strong}
    return {**shown, "glyph": GLYPHS[style.marker][bool(style.dash)]}


def _crowd(numbers: Numbers) -> Context | None:
    """Which arms crowded figures show at first, of how many; None where that is all."""
    leading, total = len(numbers.leading), len(numbers.view.study.arms)
    legend = [_legend(numbers.styles[name]) for name in numbers.leading]
    found = {"leading": str(leading), "all": str(total), "legend": legend, "rule": crowding.rule(numbers)}
    return found if leading < total else None


def _task(numbers: Numbers, task: str, key: str) -> Context:
    info = numbers.view.infos[task]
    found = results(numbers, [task], is_best_first=True)
    card = {**table_context(found, left_out=["workload"]), "note": ""}  # its heading says which; one note does for all
    return {
        "id": key,
        "title": info.title,
        "summary": info.summary,
        "sentences": task_sentences(numbers, task),
        "table": card if found.rows else None,
        "sections": [_section(numbers, section, key) for section in task_sections(numbers, task)],
    }


def _numbers(numbers: Numbers) -> Context:
    """The numbers behind the page, unrounded; what has a place has it inside."""
    left_out = {"view", "styles", "leading"}
    found = {name: value for name, value in vars(numbers).items() if name not in left_out}
    return {**found, "results": list(numbers.results.values()), "reachings": list(numbers.reachings.values())}


def _plain(value: Any) -> Any:
    """Dataclasses as dictionaries, infinities as words: JSON has neither."""
    if isinstance(value, Place):
        return {"task": value.task, "arm": value.arm, "variation": spelled(value.variation)}
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(item) for name, item in vars(value).items()}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if value in (float("inf"), float("-inf")) else value
