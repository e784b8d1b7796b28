"""The pages of the reference: every public name of ``dcao``, one page for each room of the library.

Public are the names in ``dcao.__all__``, those in the ``__all__`` of its public modules, and of ``dcao.integrations``
what ``docs/trainers.md`` names. A name that is in two of these is listed once, by its shorter path.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import griffe
from as_imported import AsImported

ROOT = Path(__file__).parents[1]
TITLES = {
    "averaging": "Averages of weights",
    "finding": "Finding a learning rate",
    "guarding": "The guard",
    "integrations": "Trainers",
    "literal": "The proposal's algorithm",
    "optimizer": "The optimizer",
    "plotting": "Pictures",
    "replay": "Logs and replay",
    "state": "Inside a probe or not",
    "telemetry": "Records",
    "updates": "Thresholds, and optimizers of your own",
}
INTRODUCTION = """# Reference

Every public name of `dcao`. What is not here may change without notice.
"""
FIRST = ("optimizer", "policies", "schedules", "probing", "guarding", "telemetry", "recorders", "replay", "plotting")


def pages() -> dict[str, str]:
    """The text of each page of the reference, by its place on the site."""
    rooms = defaultdict(list)
    for path, canonical in public_names().items():
        rooms[canonical.split(".")[1]].append(path)
    order = sorted(rooms, key=lambda room: (FIRST.index(room) if room in FIRST else len(FIRST), room))
    rows = [f"| [{_title(room)}]({room}.md) | {', '.join(map(_link, rooms[room]))} |" for room in order]
    contents = "\n".join([INTRODUCTION, "| page | names |", "|---|---|", *rows])
    return {"reference/index.md": contents, **{f"reference/{room}.md": _page(room, rooms[room]) for room in order}}


@cache
def _package() -> griffe.Object:
    extensions = griffe.load_extensions(AsImported)
    return griffe.load("dcao", search_paths=[str(ROOT / "src")], extensions=extensions)


@cache
def public_names() -> dict[str, str]:
    """The path by which each public object is imported, and the path where it is defined."""
    package = _package()
    modules = [name for name in package.exports if package[name].is_module]
    paths = [f"dcao.{name}" for name in package.exports if name not in modules]
    paths += [f"dcao.{module}.{name}" for module in modules for name in package[module].exports]
    paths += _named_integrations(package["integrations"])
    shortest: dict[str, str] = {}
    for path in paths:
        shortest.setdefault(package[path.removeprefix("dcao.")].canonical_path, path)
    return {path: canonical for canonical, path in shortest.items()}


def _named_integrations(integrations: griffe.Object) -> list[str]:
    text = (ROOT / "docs" / "trainers.md").read_text()
    members = (member for module in integrations.modules.values() for member in module.members.values())
    own = (member for member in members if not member.is_alias and (member.is_class or member.is_function))
    return [member.path for member in own if re.search(rf"\b{member.name}\b", text)]


def _page(room: str, paths: list[str]) -> str:
    return "\n\n".join([f"# {_title(room)}", *map(_entry, paths)]) + "\n"


def _entry(path: str) -> str:
    """What mkdocstrings replaces by the documentation of ``path``; members of bases without an entry are its own."""
    bases = {base.canonical_path for base in _bases(path)}
    if bases <= set(public_names().values()):
        return f"::: {path}"
    return f"::: {path}\n    options:\n      inherited_members: true\n      show_bases: false"


def _bases(path: str) -> list[griffe.Class]:
    obj = _package()[path.removeprefix("dcao.")]
    return obj.mro() if obj.is_class else []


def _title(room: str) -> str:
    return TITLES.get(room, room.capitalize())


def _link(path: str) -> str:
    return f"[`{path.removeprefix('dcao.')}`][{path}]"
