"""Lines that have been appended to a file since the last look, whatever else happens to that file."""

import os
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 4 << 20
"""What one look reads at most, so that a long log does not keep a person waiting for the first picture."""

REMEMBERED = 4096
"""Bytes before the place reached, which tell whether the file is still the one that was read: more than a record.

The system may give the number of a deleted file to a new one, and the ends of two records are often the same.
"""


@dataclass(frozen=True, kw_only=True)
class Appended:
    """What one look at a file found.

    Attributes:
        lines: New whole lines, in order, without their ends.
        is_fresh_start: Whether these lines replace all earlier ones: the file is another one, or was written anew.
        has_more: Whether the next look will find more at once.
    """

    lines: tuple[bytes, ...] = ()
    is_fresh_start: bool = False
    has_more: bool = False


class Tail:
    """Follows a file that grows by whole lines.

    A last line without an end waits until it has one. A file that is not there has no new lines. One that is replaced,
    or has become shorter than what was read, is read from its beginning. Moving the file changes nothing.

    Example:
        >>> import tempfile
        >>> path, tail = Path(tempfile.mkdtemp()) / "log", Tail()
        >>> tail.read(path).lines
        ()
        >>> _ = path.write_bytes(b"first" + bytes([10]) + b"sec")
        >>> tail.read(path).lines
        (b'first',)
    """

    def __init__(self) -> None:
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._before = b""

    def read(self, path: Path, most: int = MOST_BYTES) -> Appended:
        """The whole lines that are new at ``path``, in about ``most`` bytes."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return Appended()
        with file:
            status = os.fstat(file.fileno())
            identity = (status.st_dev, status.st_ino)
            is_known = self._file in (None, identity) and self._has_what_was_read(file.fileno())
            if not is_known:
                self._offset, self._before = 0, b""
            self._file = identity
            file.seek(self._offset)
            chunk = file.read(most)
            has_more = len(chunk) == most
            if has_more and not chunk.endswith(b"\n"):
                chunk += file.readline()
        whole = chunk[: chunk.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._before = (self._before + whole)[-REMEMBERED:]
        return Appended(lines=tuple(whole.split(b"\n")[:-1]), is_fresh_start=not is_known, has_more=has_more)

    def _has_what_was_read(self, descriptor: int) -> bool:
        """Whether the bytes before the place reached are those that were read there."""
        begin = self._offset - len(self._before)
        return os.pread(descriptor, len(self._before), begin) == self._before
