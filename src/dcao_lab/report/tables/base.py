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
        title: Above it on a page; empty: a page leaves the column out.
        paper: Above it on paper; empty: a paper leaves the column out.
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
        unit: What is counted; a paper's note says it instead.
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
class Group:
    """Rows that belong together.

    Attributes:
        title: Of what; empty where the table has one group alone.
        rows: A cell for each column.
    """

    title: str = ""
    rows: Sequence[Row]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        name: Name of its file on paper, without the ending.
        label: What it is called on a page.
        columns: From left to right, after the one with the groups' titles.
        groups: Groups of rows, from top to bottom.
        grouped_by: Title of the column with the groups' titles; empty: there is none.
        note: How to read it.
        most: A page folds a table of more rows.
    """

    name: str
    label: str
    columns: Sequence[Column]
    groups: Sequence[Group]
    grouped_by: str = ""
    note: str = ""
    most: int = 40

    @property
    def num_rows(self) -> int:
        """Rows of all groups."""
        return sum(len(group.rows) for group in self.groups)


class _OfTask(Protocol):
    @property
    def task(self) -> str: ...


T = TypeVar("T", bound=_OfTask)


def cell(value: Cell | str) -> Cell:
    """The cell of a row's entry."""
    return Cell(text=value) if isinstance(value, str) else value


def by_workload(numbers: Numbers, found: Iterable[T], row: Callable[[WorkloadInfo, T], Row]) -> list[Group]:
    """A row for each of ``found``, in a group for each workload that has some."""
    items = list(found)
    groups = [
        Group(title=info.title, rows=[row(info, item) for item in items if item.task == task])
        for task, info in numbers.view.infos.items()
    ]
    return [group for group in groups if group.rows]


def interval(low: str, high: str, status: str = "ok") -> Cell:
    """The cell of an interval; where it has no ends a dash, and below it why (``status``)."""
    if formats.DASH in (low, high):
        return Cell(text=formats.DASH, detail="" if status == "ok" else status)
    return Cell(text=low, upto=high)
