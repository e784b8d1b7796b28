"""The navigation of the site: entries of ``nav`` that stand for all pages of a folder."""

from __future__ import annotations

from typing import Any


def listed(nav: list[Any], pages: list[str], index: str) -> list[Any]:
    """``nav`` with each entry that ends in ``*`` replaced by the pages there, in the order of their links in ``index``.

    Example:
        >>> listed([{"Theory": "theory/*"}], ["theory/a.md", "theory/b.md"], "[b](theory/b.md) and [a](theory/a.md)")
        [{'Theory': ['theory/b.md', 'theory/a.md']}]
    """
    return [_entry(item, pages, index) for item in nav]


def _entry(item: Any, pages: list[str], index: str) -> Any:
    if isinstance(item, str):
        return item
    ((title, target),) = item.items()
    if isinstance(target, list):
        return {title: listed(target, pages, index)}
    if not target.endswith("*"):
        return item
    there = [page for page in pages if page.startswith(target[:-1])]
    return {title: sorted(there, key=lambda page: _place(page, index))}


def _place(page: str, index: str) -> tuple[bool, int]:
    """Where a page belongs: the folder's own first, then as ``index`` links to them, then the rest as they are."""
    link = index.find(f"({page})")
    return not page.endswith("/index.md"), link if link >= 0 else len(index)
