r"""Text and tables as LaTeX; a table needs ``\usepackage{booktabs}`` and nothing else."""

import re
from collections.abc import Sequence
from itertools import groupby

from dcao_lab.report import formats
from dcao_lab.report.tables.base import DIVERGED, Cell, Column, Table, cell

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after the end of a row it would be an argument, and a star too
    "*": "{*}",
    **{character: "\\" + character for character in "&%$#_{}"},
    "-": "-{}",  # two of them would become a dash
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    "\N{EN DASH}": "--",
    "\N{MINUS SIGN}": "$-$",
}
_SPECIAL_PATTERN = re.compile("|".join(map(re.escape, _SPECIAL)))
_NUMBER = re.compile(r"([+-]?)([\d.]+)(?:e([+-]?\d+))?(" + "\N{NO-BREAK SPACE}%)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_SYMBOL = re.compile(r"^[pr]\b")  # of a statistic, at the beginning of a title


def escape(text: str) -> str:
    r"""Text that LaTeX sets as it is.

    Example:
        >>> print(escape("a_b & 5 % $x$ {y} #1 ~ ^"))
        a\_b \& 5 \% \$x\$ \{y\} \#1 \textasciitilde{} \textasciicircum{}
    """
    return _SPECIAL_PATTERN.sub(lambda found: _SPECIAL[found[0]], _CONTROL.sub(" ", text))


def number(text: str) -> str:
    r"""A spelled number: its sign as one, its exponent as a power of ten; no number, or divergence, as a dash.

    Example:
        >>> print(number("-0.5"), number("2.5e-3"), number("1e-3"), number("98.1\N{NO-BREAK SPACE}%"))
        $-0.5$ $2.5 \cdot 10^{-3}$ $10^{-3}$ 98.1~\%
    """
    if text in (formats.DASH, DIVERGED):
        return "--"
    found = _NUMBER.fullmatch(text)
    if found is None:
        return escape(text)
    sign, mantissa, exponent, percent = found.groups()
    unit = escape(percent or "")
    if exponent is None:
        return (f"${sign}{mantissa}$" if sign else mantissa) + unit
    power = f"10^{{{int(exponent)}}}"
    return (f"${sign}{power}$" if mantissa == "1" else f"${sign}{mantissa} \\cdot {power}$") + unit


def bold(latex: str) -> str:
    r"""LaTeX in bold; numbers in math mode do not listen to ``\textbf`` and need ``\boldmath``."""
    return rf"{{\boldmath\textbf{{{latex}}}}}" if "$" in latex.replace(r"\$", "") else rf"\textbf{{{latex}}}"


def to_latex(table: Table) -> str:
    r"""The file of a table, for ``\input``; its note is a comment."""
    columns = {i: column for i, column in enumerate(table.columns) if column.paper}
    titles = [_SYMBOL.sub(r"$\g<0>$", escape(column.paper)) for column in columns.values()]
    rows = [[_cell(column, cell(row[i])) for i, column in columns.items()] for row in table.rows]
    groups = groupby(rows, key=lambda row: row[0] if table.is_grouped else "")
    lines = [
        "% " + escape(table.note).replace("-{}", "-"),
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{''.join('l' if column.is_text else 'r' for column in columns.values())}}}",
        r"\toprule",
        _row(titles),
        r"\midrule",
        "\n\\midrule\n".join(_rows(list(group), is_group=bool(first)) for first, group in groups),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _rows(rows: Sequence[Sequence[str]], *, is_group: bool) -> str:
    """Rows below each other; those of a group name it once."""
    return "\n".join(_row(["", *row[1:]] if is_group and number else row) for number, row in enumerate(rows))


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(column: Column, value: Cell) -> str:
    if column.is_text:
        return "--" if value.text == formats.DASH else escape(value.text)
    text = f"[{number(value.text)}, {number(value.upto)}]" if value.upto else number(value.text)
    return bold(text) if value.is_bold else text
