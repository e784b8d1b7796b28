"""The records that a picture is made of, from wherever the caller has them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dcao.replay import read_jsonl
from dcao.telemetry import StepRecord

Source = Iterable[StepRecord] | str | os.PathLike[str]

RUN_FILE = "telemetry.jsonl"
"""The file that has the records in the folder of a run of ``dcao_lab``."""

RULE = "records must be StepRecords, the path of a JsonlRecorder's file or the folder of a run of dcao-lab"


def records_of(source: Source) -> list[StepRecord]:
    """The records of a list, of a file or of a run's folder; an error if that is not what ``source`` is."""
    if isinstance(source, (str, os.PathLike)):
        return _read(_file(Path(source)))
    if isinstance(source, StepRecord) or not isinstance(source, Iterable):
        raise TypeError(f"{RULE}, got {type(source).__name__}; {_fix(source)}")
    records = list(source)
    for index, record in enumerate(records):
        if not isinstance(record, StepRecord):
            raise TypeError(f"{RULE}, got {type(record).__name__} at index {index}; read_jsonl(path) reads a log")
    return records


def _fix(source: object) -> str:
    """What somebody who passed this probably meant."""
    if isinstance(source, StepRecord):
        return "pass a list of them"
    if hasattr(source, "records"):
        return "pass its records"
    if hasattr(source, "path"):
        return "pass its path"
    return "DCAO(..., recorder=MemoryRecorder()) keeps them in recorder.records"


def _file(path: Path) -> Path:
    """The file of records that ``path`` is or has."""
    if not path.exists():
        raise FileNotFoundError(f"{RULE}, and there is no {path}; check the path")
    if not path.is_dir():
        return path
    if (path / RUN_FILE).is_file():
        return path / RUN_FILE
    runs = sorted(found.parent for found in path.glob(f"*/{RUN_FILE}"))
    if runs:
        fix = f"give the folder of one run, such as {runs[0]}"
    else:
        fix = "give the .jsonl file itself; dcao-lab run --watch keeps records of a bare optimizer too"
    raise FileNotFoundError(f"{RULE}, and {path} has no {RUN_FILE}; {fix}")


def _read(file: Path) -> list[StepRecord]:
    try:
        records = read_jsonl(file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{RULE}, and {file} is no text; give the file that the recorder writes") from error
    if not records:
        raise ValueError(
            f"{file} must have at least one whole record, and has none; the first comes with a run's first probe"
        )
    return records
