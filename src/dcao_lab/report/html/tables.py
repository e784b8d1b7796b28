"""A table as the template takes it."""

from typing import Any

from dcao_lab.report.tables.base import Cell, Table, cell

Context = dict[str, Any]


def table_context(table: Table, *, is_grouped: bool = True) -> Context:
    """The columns of a page and their cells; with ``is_grouped`` the groups' titles come first in every row."""
    columns = [(index, column.title) for index, column in enumerate(table.columns) if column.title]
    has_groups = is_grouped and bool(table.grouped_by)
    return {
        "label": table.label,
        "columns": [*([table.grouped_by] if has_groups else []), *(title for _, title in columns)],
        "rows": [
            [
                *([_cell(Cell(text=group.title))] if has_groups else []),
                *(_cell(cell(row[index])) for index, _ in columns),
            ]
            for group in table.groups
            for row in group.rows
        ],
        "note": table.note,
        "num_rows": str(table.num_rows),
        "is_folded": table.num_rows > table.most,
    }


def _cell(value: Cell) -> Context:
    text = f"{value.text} to {value.upto}" if value.upto else value.text
    return {"text": f"{text} {value.unit}".rstrip(), "detail": value.detail, "shade": value.shade}
