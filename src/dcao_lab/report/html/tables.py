"""A table as the template takes it."""

from collections.abc import Collection
from typing import Any

from dcao_lab.report.tables.base import Cell, Table, cell

Context = dict[str, Any]


def table_context(table: Table, *, left_out: Collection[str] = ()) -> Context:
    """The columns of a page, but those left out by their titles, and their cells."""
    columns = {i: column.title for i, column in enumerate(table.columns) if column.title not in ("", *left_out)}
    return {
        "label": table.label,
        "columns": list(columns.values()),
        "rows": [[_cell(cell(row[i])) for i in columns] for row in table.rows],
        "note": table.note,
        "num_rows": str(len(table.rows)),
        "is_folded": len(table.rows) > table.most,
    }


def _cell(value: Cell) -> Context:
    text = f"{value.text} to {value.upto}" if value.upto else value.text
    return {"text": f"{text} {value.unit}".rstrip(), "detail": value.detail, "shade": value.shade}
