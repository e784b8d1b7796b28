"""Formulas as MathML, made when the site is built: no script, no font, no network."""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert


def mathml(source: str, *_: Any, **__: Any) -> str:
    """The LaTeX of a fence as a formula on a line of its own."""
    latex = source.replace(r"\_", "_")  # an underscore in a name, which latex2mathml leaves as it is
    return f'<div class="formula">{convert(latex, display="block")}</div>'


FENCE = {"name": "math", "class": "formula", "format": mathml}
"""What ``pymdownx.superfences`` does with a fence ``math``, which code hosts show as a formula as well."""
