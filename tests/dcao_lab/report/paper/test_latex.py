import re

import pytest

from dcao_lab.report.paper.latex import bold, escape, number, to_latex
from dcao_lab.report.tables.base import Cell, Column, Table

HOSTILE = "a_b&c%$#{}~^\\"


COLUMNS = (Column(title="arm", paper="Arm", is_text=True), Column(title="only on a page"), Column(paper="Value"))
WORKLOAD = Column(title="workload", paper="Workload", is_text=True)


def table(*rows, columns=COLUMNS, **changes):
    found = [(*row[:-1], "", row[-1]) for row in rows]
    return Table(name="t", label="T", note="What it shows.", columns=columns, rows=found, **changes)


def test_every_special_character_of_latex_is_escaped():
    # each of LaTeX's ten specials, as the LaTeX companion's table of input spells it
    expected = r"a\_b\&c\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert escape(HOSTILE) == expected


@pytest.mark.parametrize("text", ["\\end{tabular}", "x\\\\y", "50% off\nnext", "{", "$x$", "\\input{/etc/passwd}"])
def test_no_text_can_leave_its_cell(text):
    latex = escape(text)
    assert "\n" not in latex
    rest = re.sub(r"\\[&%$#_{}]|\\text[a-z]+\{\}|-\{\}|\{\[\}|\{\*\}", "", latex)
    assert not set(rest) & set("\\&%$#_{}~^"), latex


@pytest.mark.parametrize("start", ["[2pt]", "*"])
def test_a_cell_cannot_be_the_argument_of_the_row_before(start):
    assert escape(start).startswith("{")


@pytest.mark.parametrize(
    ("spelled", "latex"),
    [
        ("0.12", "0.12"),
        ("-0.12", "$-0.12$"),
        ("+3.5", "$+3.5$"),
        ("1e-3", "$10^{-3}$"),
        ("2.5e-2", r"$2.5 \cdot 10^{-2}$"),
        ("97.5\N{NO-BREAK SPACE}%", r"97.5~\%"),
        ("+20\N{NO-BREAK SPACE}%", r"$+20$~\%"),
        ("-", "--"),
        ("<0.001", r"\textless{}0.001"),
        ("1\N{NARROW NO-BREAK SPACE}234", r"1\,234"),
    ],
)
def test_numbers_are_set_as_numbers(spelled, latex):
    assert number(spelled) == latex


def test_bold_reaches_numbers_in_math_mode():
    assert bold("97.5") == r"\textbf{97.5}"
    assert bold("$10^{-3}$") == r"{\boldmath\textbf{$10^{-3}$}}"


def test_a_table_has_booktabs_rules_around_its_groups():
    rows = (("50% MLP", "a", "1"), ("50% MLP", "b", "2"), ("GPT", "c", "3"))
    lines = to_latex(table(*rows, columns=(WORKLOAD, *COLUMNS), is_grouped=True)).splitlines()
    assert lines[0] == "% What it shows."
    assert lines[2:] == [
        r"\begin{tabular}{llr}",
        r"\toprule",
        r"Workload & Arm & Value \\",
        r"\midrule",
        r"50\% MLP & a & 1 \\",
        r" & b & 2 \\",
        r"\midrule",
        r"GPT & c & 3 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_table_without_groups_has_no_rule_between_its_rows():
    latex = to_latex(table(("a", "1"), ("a", "2"), ("b", "3")))
    assert latex.count(r"\midrule") == 1
    assert r"a & 2 \\" in latex


@pytest.mark.parametrize(
    ("cell", "latex"),
    [
        (Cell(text="-1.5", upto="+0.5"), "[$-1.5$, $+0.5$]"),
        (Cell(text="0.031", is_bold=True), r"\textbf{0.031}"),
        (Cell(text="+2.0", unit="points", detail="at 1e-3", shade=3), "$+2.0$"),
        (Cell(text="diverged"), "--"),
    ],
)
def test_a_cell_is_set_by_what_it_means(cell, latex):
    assert rf"a & {latex} \\" in to_latex(table(("a", cell)))


def test_the_symbol_of_a_statistic_is_set_as_one():
    columns = [Column(paper=title) for title in ("p (Holm)", "r", "Pairs")]
    assert r"$p$ (Holm) & $r$ & Pairs \\" in to_latex(Table(name="t", label="T", columns=columns, rows=()))
