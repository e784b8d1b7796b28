"""What an opening is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from dcao_lab.report.sections.base import Section


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A number that is seen from afar.

    Attributes:
        label: What it is.
        value: The number, with its unit.
        detail: What there is to know beside it.
    """

    label: str
    value: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The first screen of a page; all the rest of the page is folded below it.

    Attributes:
        verdict: What came out, in a sentence, which the terminal ends with too.
        tiles: The numbers above the first picture.
        sections: The pictures, the one that the study is about first.
        note: A sentence below them; empty: none.
        numbers: What it is made of beside the study's numbers, unrounded, for the page's data; None: nothing.
    """

    verdict: str
    tiles: Sequence[Tile] = ()
    sections: Sequence[Section]
    note: str = ""
    numbers: object = None
