"""Counting where a probe does not undo it: what a loss keeps in variables, attributes and lists is put back."""

from __future__ import annotations

from queue import SimpleQueue


class Count:
    """A number that only grows; a probe leaves alone what the standard library keeps inside its own objects."""

    def __init__(self) -> None:
        self._marks: SimpleQueue[None] = SimpleQueue()

    def add(self) -> int:
        """One more; the number so far."""
        self._marks.put(None)
        return self._marks.qsize()

    def __int__(self) -> int:
        return self._marks.qsize()
