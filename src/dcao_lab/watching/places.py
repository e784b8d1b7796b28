"""Where the log of a run is at the moment, and whether the run is over."""

import re
from dataclasses import dataclass
from pathlib import Path

from dcao_lab.runs.store import MANIFEST, PARTIAL, TELEMETRY

_FINGERPRINT = re.compile(r"^([0-9a-f]{16})-|-([0-9a-f]{16})$")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run is kept at the moment.

    Attributes:
        path: What to ask for the next time; it stays the same run's.
        log: The log, which need not be there yet.
        is_over: Whether the folder says that the run is over. A log without the folder of a run never does.
    """

    path: Path
    log: Path
    is_over: bool = False


def place_of(path: Path) -> Place:
    """Where a run is: a log, the folder of a run, or a folder of runs, of which the one that began last is meant.

    A run that is under way is in a temporary folder, and in one with a name to read once it is over. Either name leads
    to it.
    """
    if path.is_file() or (path.suffix == ".jsonl" and path.name != TELEMETRY):
        return Place(path=path, log=path, is_over=path.name == TELEMETRY and (path.parent / MANIFEST).is_file())
    folder = path.parent if path.name == TELEMETRY else path
    folder = folder if _is_of_a_run(folder) else _same_run(folder) or _latest(folder / PARTIAL) or folder
    is_over = folder.parent.name != PARTIAL and (folder / MANIFEST).is_file()  # else it is about to be moved
    return Place(path=folder, log=folder / TELEMETRY, is_over=is_over)


def is_of_runs(folder: Path) -> bool:
    """Whether this is a folder of runs."""
    return (folder / PARTIAL).is_dir()


def _is_of_a_run(folder: Path) -> bool:
    return folder.is_dir() and not is_of_runs(folder)


def _same_run(folder: Path) -> Path | None:
    """The folder to which a run has moved, or in which it began again."""
    named = _FINGERPRINT.search(folder.name)
    if named is None:
        return None
    fingerprint = named[1] or named[2]
    root = folder.parent.parent if folder.parent.name == PARTIAL else folder.parent
    finished = next(iter(root.glob(f"*-{fingerprint}")), None)
    return finished or _latest(root / PARTIAL, f"{fingerprint}-*")


def _latest(folder: Path, pattern: str = "*") -> Path | None:
    found = sorted((_made(each), each) for each in folder.glob(pattern))
    return found[-1][1] if found else None


def _made(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # moved or deleted since it was listed
        return 0.0
