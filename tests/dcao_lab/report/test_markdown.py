from dcao_lab.report.markdown import to_markdown
from dcao_lab.report.tables.base import Cell, Column, Table


def table(*rows, titles=("arm", "lr"), note=""):
    return Table(name="t", label="A table", columns=[Column(title=title) for title in titles], rows=rows, note=note)


def test_a_cell_has_its_unit_its_small_print_and_its_weight():
    cells = Cell(text="1.5", unit="points", detail="at 1e-3", is_bold=True), Cell(text="1", upto="2")
    assert to_markdown(table(cells)).splitlines()[2:] == [
        "| arm | lr |",
        "|---|---|",
        "| **1.5** points (at 1e-3) | 1 to 2 |",
    ]


def test_a_column_without_a_title_is_left_out_and_the_note_is_below():
    found = to_markdown(table(["a", "b"], titles=("arm", ""), note="How to read it."))
    assert found == "**A table**\n\n| arm |\n|---|\n| a |\n\nHow to read it.\n"


def test_no_name_can_break_a_row_or_be_taken_for_markup():
    (row,) = to_markdown(table(["a|b\nc", "*x* <b> [y] `z` 5\xa0%"])).splitlines()[4:]
    assert row == r"| a\|b c | \*x\* \<b> \[y\] \`z\` 5 % |"
