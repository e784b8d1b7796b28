"""What a section is made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dcao_lab.report.figures.drawings import BarChart, Panel
from dcao_lab.report.tables.base import Table

Drawing = Panel | BarChart


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page.

    Attributes:
        key: Its name, a part of ids of the page, which hold no name that a person gave.
        heading: What it is about.
        caption: How to read it.
        figures: Its figures, by a name for their ids.
        tables: Its tables.
        clocks: What its figures can be drawn over, by name.
        columns: At most so many figures stand beside each other; fewer where the page is narrow.
        is_grid: Whether the columns mean something, so that a phone scrolls to the side to keep them.
    """

    key: str
    heading: str
    caption: str = ""
    figures: Mapping[str, Drawing] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    clocks: Sequence[str] = ()
    columns: int = 4
    is_grid: bool = False


def numbered(name: str, drawings: Iterable[Drawing]) -> dict[str, Drawing]:
    """The drawings of one kind, by names for their ids."""
    return {f"{name}-{number}": drawing for number, drawing in enumerate(drawings)}


def filled(sections: Iterable[Section]) -> list[Section]:
    """The sections that have something to show."""
    return [
        section
        for section in sections
        if any(not figure.is_empty for figure in section.figures.values())
        or any(table.rows for table in section.tables)
    ]
