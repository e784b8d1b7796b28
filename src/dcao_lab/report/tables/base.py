"""What a table is made of: cells as spelled text, and what they mean; an ink sets them in HTML or LaTeX."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dcao_lab.report import formats
from dcao_lab.report.numbers import Numbers
from dcao_lab.workloads import WorkloadInfo

DIVERGED = "diverged"  # instead of a number


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column.

    Attributes:
        title: Its title on a page; empty: the page leaves the column out.
        paper: Its title on paper; empty: the paper leaves the column out.
        is_text: Whether it holds words rather than numbers.
    """

    title: str = ""
    paper: str = ""
    is_text: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell.

    Attributes:
        text: A spelled number or words.
        upto: Upper end, where ``text`` is the lower end of an interval; empty: it is none.
        unit: What is counted, on a page; on paper the note says it.
        detail: Small print below it on a page.
        shade: From 0 (none) to 4 (best), on a page.
        is_bold: Whether it stands out on paper; the note says why.
    """

    text: str
    upto: str = ""
    unit: str = ""
    detail: str = ""
    shade: int = 0
    is_bold: bool = False


Row = Sequence[Cell | str]  # a text is a cell with nothing else


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        name: Name of its file on paper, without the ending.
        label: What it is called on a page.
        columns: From left to right.
        rows: From top to bottom, a cell for each column.
        is_grouped: Whether rows with the same first cell are a group, which paper sets between rules.
        note: How to read it.
        most: A page folds a table of more rows.
    """

    name: str
    label: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    is_grouped: bool = False
    note: str = ""
    most: int = 40


class OfTask(Protocol):
    """What belongs to one workload."""

    @property
    def task(self) -> str:
        """Name of the workload."""


T = TypeVar("T", bound=OfTask)
Fill = Callable[[T, WorkloadInfo], Cell | str]  # the cell for one of what is listed
Columns = Sequence[tuple[Column, Fill[T]]]


def words(title: str, paper: str, fill: Fill[T]) -> tuple[Column, Fill[T]]:
    """A column of words, and what fills it."""
    return Column(title=title, paper=paper, is_text=True), fill


def values(title: str, paper: str, fill: Fill[T]) -> tuple[Column, Fill[T]]:
    """A column of numbers, and what fills it."""
    return Column(title=title, paper=paper), fill


def by_workload(
    numbers: Numbers, found: Iterable[T], columns: Columns[T], *, name: str, label: str, note: str, most: int = 40
) -> Table:
    """A row for each of ``found``, those of a workload together."""
    items = list(found)
    rows = [
        [info.title, *(fill(item, info) for _, fill in columns)]
        for task, info in numbers.view.infos.items()
        for item in items
        if item.task == task
    ]
    workload = Column(title="workload", paper="Workload", is_text=True)
    titles = [workload, *(column for column, _ in columns)]
    return Table(name=name, label=label, columns=titles, rows=rows, is_grouped=True, note=note, most=most)


def cell(value: Cell | str) -> Cell:
    """The cell of a row's entry."""
    return Cell(text=value) if isinstance(value, str) else value


def interval(low: str, high: str, status: str = "ok") -> Cell:
    """The cell of an interval; where it has no ends a dash, and below it why (``status``)."""
    if formats.DASH in (low, high):
        return Cell(text=formats.DASH, detail="" if status == "ok" else status)
    return Cell(text=low, upto=high)
