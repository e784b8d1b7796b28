"""Places where Python code keeps state between two calls: each can be read, and put back to what was read."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import is_
from types import CellType
from typing import Any, Protocol

import torch

LONGEST_COPY = 100_000
"""Entries of a list that are copied. Of a longer one only what is appended is taken away."""

_ABSENT: Any = object()


class Place(Protocol):
    """A place whose content can be read and put back. What lies there keeps its identity."""

    def read(self) -> Any:
        """Its content, in a copy one level deep."""

    def write(self, content: Any) -> None:
        """Put back what was read; what has not changed is not touched."""


class Entries:
    """The entries of a dict, or the attributes of an object, which are the entries of its ``__dict__``."""

    def __init__(self, entries: dict[Any, Any]) -> None:
        self.entries = entries
        # Not the methods of a subclass, which may do more.
        self.kind: Any = OrderedDict if isinstance(entries, OrderedDict) else dict

    def read(self) -> dict[Any, Any]:
        """Names and values."""
        return dict(self.kind.items(self.entries))

    def write(self, content: Mapping[Any, Any]) -> None:
        """Only what differs is written, so that the order and the guards of compiled code stay."""
        same_names = len(content) == len(self.entries) and all(map(is_, content, self.entries))
        if same_names and all(map(is_, content.values(), self.kind.values(self.entries))):
            return
        if not same_names:
            self.kind.clear(self.entries)
        for key, value in content.items():
            if self.entries.get(key, _ABSENT) is not value:
                self.kind.__setitem__(self.entries, key, value)


class Names:
    """Some of the entries of a dict: the globals that a function uses."""

    def __init__(self, entries: dict[str, Any], names: Sequence[str]) -> None:
        self.entries, self.names = entries, names

    def read(self) -> list[Any]:
        """The values, in the order of the names."""
        return [self.entries.get(name, _ABSENT) for name in self.names]

    def write(self, content: list[Any]) -> None:
        """A name that was not there is deleted."""
        for name, value in zip(self.names, content, strict=True):
            if self.entries.get(name, _ABSENT) is value:
                continue
            if value is _ABSENT:
                del self.entries[name]
            else:
                self.entries[name] = value


class Attributes:
    """Attributes of an object that keeps them in slots, or of a class."""

    def __init__(self, owner: object, names: Iterable[str] | None = None) -> None:
        self.owner, self.names = owner, names

    def read(self) -> dict[str, Any]:
        """Names and values."""
        if self.names is None:
            return dict(vars(self.owner))
        return {name: getattr(self.owner, name, _ABSENT) for name in self.names}

    def write(self, content: dict[str, Any]) -> None:
        """An attribute that was not there is deleted."""
        now = self.read()
        setter = type.__setattr__ if isinstance(self.owner, type) else object.__setattr__
        deleter = type.__delattr__ if isinstance(self.owner, type) else object.__delattr__
        for name in now.keys() | content.keys():
            value = content.get(name, _ABSENT)
            if now.get(name, _ABSENT) is value:
                continue
            if value is _ABSENT:
                deleter(self.owner, name)
            else:
                setter(self.owner, name, value)


class Cell:
    """A variable of an outer function, which an inner one may rebind."""

    def __init__(self, cell: CellType) -> None:
        self.cell = cell

    def read(self) -> Any:
        """Its value."""
        try:
            return self.cell.cell_contents
        except ValueError:  # the variable has no value yet
            return _ABSENT

    def write(self, content: Any) -> None:
        """A variable that had no value has none again."""
        if content is _ABSENT:
            del self.cell.cell_contents
        elif self.read() is not content:
            self.cell.cell_contents = content


class Items:
    """The items of a list."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def read(self) -> list[Any] | int:
        """The items; of a very long list the length alone."""
        return list.copy(self.items) if len(self.items) <= LONGEST_COPY else len(self.items)

    def write(self, content: list[Any] | int) -> None:
        """What was appended to a very long list is taken away."""
        if isinstance(content, int):
            list.__delitem__(self.items, slice(content, None))
        elif len(content) != len(self.items) or not all(map(is_, content, self.items)):
            list.__setitem__(self.items, slice(None), content)


class Collection:
    """The items of a deque, a set or a bytearray."""

    def __init__(self, items: deque[Any] | set[Any] | bytearray) -> None:
        self.items = items

    def read(self) -> Any:
        """A copy."""
        return self.items.copy()

    def write(self, content: Any) -> None:
        """Filled again unless the items are the same."""
        order = sorted if isinstance(content, set) else list  # a copy of a set may have another order
        if order(map(id, content)) == order(map(id, self.items)):
            return
        self.items.clear()
        (self.items.update if isinstance(self.items, set) else self.items.extend)(content)


class Stream:
    """A random generator, or anything else whose whole state one function gives and another one takes."""

    def __init__(self, get: Callable[[], Any], put: Callable[[Any], Any]) -> None:
        self.read, self.write = get, put


def generator_place(thing: object) -> Place | None:
    """The place of a random generator of torch, Python or NumPy; None for anything else."""
    if isinstance(thing, torch.Generator):
        return Stream(thing.get_state, thing.set_state)
    if isinstance(thing, random.Random):
        return None if isinstance(thing, random.SystemRandom) else Stream(thing.getstate, thing.setstate)
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(thing, numpy.random.Generator):
        bits = thing.bit_generator
        return Stream(lambda: bits.state, lambda state: setattr(bits, "state", state))
    if isinstance(thing, numpy.random.RandomState):
        return Stream(thing.get_state, thing.set_state)
    return None


def array_place(thing: object, largest: int) -> Place | None:
    """The place of a NumPy array of at most ``largest`` bytes; None for anything else."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(thing, numpy.ndarray) or thing.nbytes > largest or not thing.flags.writeable:
        return None
    return Stream(thing.copy, lambda content: numpy.copyto(thing, content))
