"""Tables as Markdown, for a README or a page of documentation."""

import re
from collections.abc import Sequence

from dcao_lab.report.tables.base import Cell, Table, cell

_SPECIAL = re.compile(r"[\\|*`<\[\]]")
_SPACES = re.compile(r"[\x00-\x1f\x7f\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}]+")


def escape(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    Example:
        >>> print(escape("a|b *c*"))
        a\|b \*c\*
    """
    return _SPECIAL.sub(r"\\\g<0>", _SPACES.sub(" ", text))


def to_markdown(table: Table) -> str:
    """A table under its name, as a page has it, small print in brackets; its note is below it."""
    columns = {i: column for i, column in enumerate(table.columns) if column.title}
    lines = [
        _row([escape(column.title) for column in columns.values()]),
        "|---" * len(columns) + "|",
        *(_row([_cell(cell(row[i])) for i in columns]) for row in table.rows),
    ]
    parts = [f"**{escape(table.label)}**", "\n".join(lines), escape(table.note)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Cell) -> str:
    text = escape(f"{value.text} to {value.upto}" if value.upto else value.text)
    shown = f"**{text}**" if value.is_bold else text
    return " ".join(filter(None, (shown, escape(value.unit), f"({escape(value.detail)})" if value.detail else "")))
