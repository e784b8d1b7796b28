"""The recorder that writes a file of JSON lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

from dcao.recorders.base import Recorder
from dcao.telemetry import StepRecord


class JsonlRecorder(Recorder):
    """Recorder that appends one JSON line per record to a file, so that a killed run keeps what it had.

    Args:
        path: File to append to; folders are made. A resumed run goes on in the same file; a last line that a kill or a
            full disk cut short is removed first.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def record(self, record: StepRecord) -> None:
        """Append a record to the file."""
        _finish_last_line(self.path)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.to_dict(), allow_nan=False) + "\n")


def _finish_last_line(path: Path) -> None:
    """Add a missing newline to a last line that is a whole record; remove one that is not."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        content = file.read()
        begin = content.rfind(b"\n") + 1
        try:
            StepRecord.from_dict(json.loads(content[begin:]))
        except (ValueError, KeyError, TypeError):
            file.truncate(begin)
        else:
            file.write(b"\n")
