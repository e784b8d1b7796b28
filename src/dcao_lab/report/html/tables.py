"""A table as the template takes it."""

from collections.abc import Collection
from typing import Any

from dcao_lab.report import formats
from dcao_lab.report.tables.base import Cell, Table, cell

Context = dict[str, Any]


def table_context(table: Table, *, left_out: Collection[str] = ()) -> Context:
    """The columns of a page, but those left out by their titles and those without a value, and their cells.

    A column that says the same in every row is marked: a phone has no room for it, and says it once below.
    """
    columns = [
        (column.title, [_cell(cell(row[i])) for row in table.rows])
        for i, column in enumerate(table.columns)
        if column.title not in ("", *left_out)
    ]
    kept = [(title, cells) for title, cells in columns if any(one["text"] != formats.DASH for one in cells)]
    constant = [len(cells) > 1 and all(one == cells[0] for one in cells) for _, cells in kept]
    constant[:1] = [False] * len(constant[:1])  # the first column names the row
    for (_, cells), is_constant in zip(kept, constant, strict=True):
        for one in cells if is_constant else []:
            one["look"] += " constant"
    return {
        "label": table.label,
        "columns": [{"title": kept[i][0], "is_constant": constant[i]} for i in range(len(kept))],
        "rows": [list(row) for row in zip(*(cells for _, cells in kept), strict=True)],
        "constant": formats.joined(
            *(f"{kept[i][0]}: {kept[i][1][0]['text']}" for i in range(len(kept)) if constant[i])
        ),
        "note": table.note,
        "num_rows": str(len(table.rows)),
        "is_folded": len(table.rows) > table.most,
    }


def _cell(value: Cell) -> Context:
    text = f"{value.text} to {value.upto}" if value.upto else value.text
    look = " ".join([f"shade-{value.shade}"] * bool(value.shade) + ["bold"] * value.is_bold)
    return {"text": f"{text} {value.unit}".rstrip(), "detail": value.detail, "look": look}
