"""What a table is made of."""

from collections.abc import Sequence
from typing import Any

Context = dict[str, Any]
NUM_SHADES = 5


def table(
    label: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, note: str = "", most: int = 40
) -> Context:
    """A table as the page takes it: a cell is a text, or a :func:`cell`; one of more than ``most`` rows is folded."""
    return {
        "label": label,
        "columns": list(columns),
        "rows": [[_cell(value) for value in row] for row in rows],
        "note": note,
        "num_rows": str(len(rows)),
        "is_folded": len(rows) > most,
    }


def cell(text: str, detail: str = "", shade: int = 0) -> Context:
    """A cell with small print below it, and a shade from 0 (none) to 4 (best)."""
    return {"text": text, "detail": detail, "shade": shade}


def _cell(value: Any) -> Context:
    return value if isinstance(value, dict) else cell(str(value))
