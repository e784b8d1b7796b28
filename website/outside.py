"""Files outside ``docs`` that pages link to: pages of their own on the site, and the links that lead to these.

In the repository a page of ``docs`` links to ``../examples/one_page.py``, as a code host wants it. On the site that is
the page ``repository/examples/one_page.py.md``. A folder has no page: the link's text stays, with the folder's name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXTS = {"README.md": "readme.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
LANGUAGES = {".py": "python", ".json": "json"}
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)


def pages() -> dict[str, str]:
    """The pages of files outside docs, by their place on the site: the texts, and what pages link to."""
    sources = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")]
    linked = {path for source in (*sources, *TEXTS) for path in _links_of(source) if _is_shown(path)}
    examples = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    texts = {uri: (ROOT / name).read_text() for name, uri in TEXTS.items()}
    return texts | {_uri(path): _page(path) for path in sorted(linked | examples)}


def with_links_inside(markdown: str, uri: str) -> str:
    """The text of the page at ``uri``, with its links to files outside docs leading to pages of the site."""
    source = next((name for name, place in TEXTS.items() if place == uri), f"docs/{uri}")
    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(lambda link: _inside(link, source, uri), part) for part in parts[::2]]
    return "".join(parts)


def _inside(link: re.Match[str], source: str, uri: str) -> str:
    target, _, anchor = link["target"].partition("#")
    if "://" in target or not target:
        return link[0]
    path = _resolved(source, target)
    if (ROOT / path).is_dir():
        return link["text"] if path in link["text"] else f"{link['text']} (`{path}/` in the repository)"
    there = posixpath.relpath(_uri(path), posixpath.dirname(uri) or ".")
    return f"[{link['text']}]({there}{'#' if anchor else ''}{anchor})"


def _links_of(source: str) -> list[str]:
    text = FENCE.sub("", (ROOT / source).read_text())
    targets = (link["target"].partition("#")[0] for link in LINK.finditer(text))
    return [_resolved(source, target) for target in targets if target and "://" not in target]


def _is_shown(path: str) -> bool:
    return not path.startswith("docs/") and (ROOT / path).suffix in LANGUAGES and (ROOT / path).is_file()


def _resolved(source: str, target: str) -> str:
    """A link's target as a path in the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _uri(path: str) -> str:
    """Where the site has the file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return TEXTS.get(path, f"repository/{path}.md")


def _page(path: str) -> str:
    text = (ROOT / path).read_text()
    fence = f"````{LANGUAGES[Path(path).suffix]}\n{text}````"
    return f"---\nsearch:\n  exclude: true\n---\n\n# {Path(path).name}\n\n`{path}`\n\n{fence}\n"
