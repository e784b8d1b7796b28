r"""Text and tables as LaTeX; a table needs ``\usepackage{booktabs}`` and nothing else."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dcao_lab.report import formats

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


@dataclass(frozen=True, kw_only=True)
class Table:
    r"""A table as LaTeX sets it.

    Attributes:
        name: Name of its file, without the ending.
        caption: What it shows, in a sentence of LaTeX; a comment in the file.
        columns: Titles, as LaTeX.
        alignment: A letter a column, as ``tabular`` has them.
        groups: Rows, as LaTeX, in groups with a rule between them.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    alignment: str
    groups: tuple[tuple[tuple[str, ...], ...], ...]


def escape(text: str) -> str:
    r"""Text that LaTeX sets as it is.

    Example:
        >>> print(escape("a_b & 5 % $x$ {y} #1 ~ ^"))
        a\_b \& 5 \% \$x\$ \{y\} \#1 \textasciitilde{} \textasciicircum{}
    """
    return _SPECIAL_PATTERN.sub(lambda found: _SPECIAL[found[0]], _CONTROL.sub(" ", text))


def number(text: str) -> str:
    r"""A spelled number: its sign as one, its exponent as a power of ten; no number as a dash.

    Example:
        >>> print(number("-0.5"), number("2.5e-3"), number("1e-3"), number("98.1\N{NO-BREAK SPACE}%"))
        $-0.5$ $2.5 \cdot 10^{-3}$ $10^{-3}$ 98.1~\%
    """
    if text == formats.DASH:
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
    r"""The file of a table, for ``\input``."""
    assert len(table.columns) == len(table.alignment)
    groups = [_rows(group) for group in table.groups if group]
    lines = [
        rf"% {table.caption}",
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{table.alignment}}}",
        r"\toprule",
        _row(table.columns),
        r"\midrule",
        "\n\\midrule\n".join(groups),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _rows(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(map(_row, rows))


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
