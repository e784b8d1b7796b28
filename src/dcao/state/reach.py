"""What a loss function reaches: the modules, tensors and other state that an evaluation may read and change."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler

from dcao.shards import class_before_sharding
from dcao.state.origins import Source, is_users, names_of, source_of
from dcao.state.places import (
    Attributes,
    Cell,
    Collection,
    Entries,
    Items,
    Names,
    Place,
    array_place,
    generator_place,
)

LONGEST_WALK = 1000
"""Items of a container that are looked into: a longer one holds data, not state."""

MOST_OBJECTS = 50_000
"""Objects that are looked at before the walk ends."""

LARGEST_ARRAY = 2**20
"""Bytes of the largest NumPy array that is taken for state."""

_PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, range)
_DATA = (*_PLAIN, Tensor, list, tuple, dict, set, deque)
_BAGS = (SimpleNamespace, argparse.Namespace, torch.amp.GradScaler, WeakKeyDictionary, WeakValueDictionary)
_OPAQUE = (DataLoader, Dataset, Sampler)
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


@dataclass(kw_only=True)
class Reach:
    """What a function reaches.

    Attributes:
        modules: Every module, with all that are inside.
        tensors: Tensors that are reached by another way than as a parameter or buffer of their module, the nearest
            first.
        places: Attributes, variables, containers and random generators.
    """

    modules: list[nn.Module] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)


def reach(function: object, modules: Sequence[nn.Module] = (), params: Iterable[Tensor] = ()) -> Reach:
    """What ``function`` reaches: through closures, defaults, globals that its code names, attributes, and containers.

    The walk goes into functions and classes of the user's own code and into modules (``nn.Module``), wherever these
    come from. Data sets, loaders, long containers and the insides of libraries are left out. An iterator has a position
    that cannot be put back, so it is left out too.

    Args:
        function: Where the walk starts, and at the hooks that torch runs in all modules.
        modules: Reached in any case: a trainer of a library, whose inside is left out, may call them.
        params: Optimizers of these are left out, because a loss does not step them; others may step in it.

    Example:
        >>> layer, calls = nn.Linear(2, 1), [0]
        >>> found = reach(partial(print, layer, calls))
        >>> found.modules, [type(place).__name__ for place in found.places][-1]
        ([Linear(in_features=2, out_features=1, bias=True)], 'Items')
    """
    return _Walk([function, *modules], {id(p) for p in params}).found


class _Walk:
    """One walk, the nearest objects first."""

    def __init__(self, roots: Sequence[object], own: set[int]) -> None:
        self._own = own  # ids of the parameters whose optimizers are left alone
        self.found = Reach()
        self._seen: dict[int, object] = {}  # the objects are kept, so that an id is not given away again
        self._named: set[tuple[int, tuple[str, ...]]] = set()
        self._queue: deque[object] = deque()
        self._push(roots)
        for name in _HOOKS:
            self._push(getattr(nn.modules.module, f"_global{name}").values())
        while self._queue:
            self._look_at(self._queue.popleft())

    def _push(self, things: Iterable[object]) -> None:
        for thing in things:
            if not isinstance(thing, _PLAIN) and id(thing) not in self._seen and len(self._seen) < MOST_OBJECTS:
                self._seen[id(thing)] = thing
                self._queue.append(thing)

    def _look_at(self, thing: Any) -> None:
        kind = type(thing)
        if issubclass(kind, Tensor):
            if not is_lazy(thing):
                self.found.tensors.append(thing)
                self._push(_hooks_of(thing))
        elif issubclass(kind, nn.Module):
            self._module(thing)
        elif issubclass(kind, FunctionType):
            self._function(thing)
        elif issubclass(kind, (MethodType, BuiltinMethodType)):
            self._push([thing.__self__, getattr(thing, "__func__", None)])
        elif issubclass(kind, partial):
            self._push([thing.func, *thing.args])
            self._entries(thing.keywords)
        elif issubclass(kind, (staticmethod, classmethod)):
            self._push([thing.__func__])
        elif issubclass(kind, property):
            self._push([thing.fget, thing.fset])
        elif issubclass(kind, type):
            self._class(thing)
        elif not issubclass(kind, ModuleType) and not self._container(thing):
            self._object(thing)

    # --- code -------------------------------------------------------------------------------------------------

    def _function(self, function: FunctionType) -> None:
        outer: list[object] = []
        for cell in function.__closure__ or ():
            place = Cell(cell)
            self.found.places.append(place)
            outer.append(place.read())
        self._push(outer)
        self._push(function.__defaults__ or ())
        self._push((function.__kwdefaults__ or {}).values())
        if not is_users(function.__globals__.get("__name__")):  # a wrapper: torch.compile, torch.no_grad
            self._push([function.__dict__.get(name) for name in ("__wrapped__", "_torchdynamo_orig_callable")])
            return
        if function.__dict__:
            self._entries(function.__dict__)
        names = names_of(function.__code__)
        self._names(function.__globals__, names)
        package = function.__globals__.get("__package__")
        imported = [sys.modules.get(each) for name in names for each in (name, f"{package}.{name}")]
        self._names_of_modules([*outer, *imported], names)

    def _names(self, entries: dict[str, Any], names: tuple[str, ...]) -> None:
        self.found.places.append(Names(entries, names))
        values = [entries[name] for name in names if name in entries]
        self._push(values)
        self._names_of_modules(values, names)

    def _names_of_modules(self, things: Iterable[object], names: tuple[str, ...]) -> None:
        """Look into those of ``things`` that are modules of the user's code, for what the code that has them names."""
        for thing in things:
            if not isinstance(thing, ModuleType) or (id(thing.__dict__), names) in self._named:
                continue
            if is_users(thing.__name__):
                self._named.add((id(thing.__dict__), names))
                self._names(thing.__dict__, names)

    def _class(self, kind: type) -> None:
        self._push([type(kind)])
        for each in kind.__mro__:
            if is_users(each.__module__):
                self.found.places.append(Attributes(each))
                self._push(vars(each).values())

    # --- objects ----------------------------------------------------------------------------------------------

    def _module(self, module: nn.Module) -> None:
        own = module.__dict__
        if "_modules" not in own:
            return  # its __init__ has not run
        self.found.modules.append(module)
        self._push(module._modules.values())
        hooks = [hook for name in _HOOKS if own.get(name) for hook in own[name].values()]
        self._push(hooks)
        self._push(hook for p in module._parameters.values() if p is not None for hook in _hooks_of(p))
        kind: Any = class_before_sharding(type(module))
        source = source_of(kind)
        if source is not Source.WRAPPER:
            self.found.places += [Entries(own), Entries(module._parameters)]
            self._push([own[name] for name in own.keys() - _standard_attributes()])
        if source is Source.USER:
            self._push([kind])

    def _container(self, thing: Any) -> bool:
        """Whether it is a container, an array or a generator; if so, it is noted."""
        if isinstance(thing, (tuple, frozenset)):
            items: Iterable[object] = thing
        elif isinstance(thing, dict):
            self._entries(thing)
            return True
        elif isinstance(thing, list):
            self.found.places.append(Items(thing))
            items = thing
        elif isinstance(thing, (deque, set, bytearray)):
            self.found.places.append(Collection(thing))
            items = () if isinstance(thing, bytearray) else thing
        else:
            place = generator_place(thing) or array_place(thing, LARGEST_ARRAY)
            if place is not None:
                self.found.places.append(place)
            return place is not None
        if len(thing) <= LONGEST_WALK:
            self._push(items)
        return True

    def _entries(self, entries: dict[Any, Any]) -> None:
        if len(entries) <= LONGEST_WALK:
            self.found.places.append(Entries(entries))
            self._push(dict.values(entries))

    def _optimizer(self, thing: Optimizer | LRScheduler) -> None:
        """One of other parameters may step in the loss: a discriminator's, an attack's."""
        optimizer = thing if isinstance(thing, Optimizer) else thing.optimizer
        if any(id(p) in self._own for group in optimizer.param_groups for p in group["params"]):
            return
        if thing is optimizer:
            self.found.places.append(Entries(optimizer.state))
            self._push(optimizer.state.values())
            self._push(optimizer.param_groups)
        else:
            self._entries(thing.__dict__)

    def _object(self, thing: object) -> None:
        kind = type(thing)
        if isinstance(thing, (Optimizer, LRScheduler)):
            self._optimizer(thing)
            return
        if issubclass(kind, _OPAQUE):
            return
        if not (issubclass(kind, _BAGS) or any(is_users(each.__module__) for each in kind.__mro__)):
            # Of a library's objects, those that are a bag of values: a meter, a metric.
            values = list(getattr(thing, "__dict__", {}).values())
            if (
                not values
                or kind.__module__ in sys.stdlib_module_names
                or not all(isinstance(v, _DATA) for v in values)
            ):
                return
        if isinstance(own := getattr(thing, "__dict__", None), dict):
            self._entries(own)
        if slots := _slots(kind):
            place = Attributes(thing, slots)
            self.found.places.append(place)
            self._push(place.read().values())
        self._push([kind])


@lru_cache(maxsize=1)
def _standard_attributes() -> frozenset[str]:
    """What every module has."""
    return frozenset(nn.Module().__dict__)


def _hooks_of(tensor: Tensor) -> list[object]:
    return [hook for name in _TENSOR_HOOKS for hook in (getattr(tensor, name, None) or {}).values()]


def _slots(kind: type) -> list[str]:
    names = [name for each in kind.__mro__ for name in _as_tuple(each.__dict__.get("__slots__", ()))]
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _as_tuple(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)
