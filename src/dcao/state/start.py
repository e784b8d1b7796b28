"""The state that every evaluation of a loss starts from: as it was before the training pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from dcao.shards import gather_nothing
from dcao.state.buffers import sharing_memory
from dcao.state.places import Place
from dcao.state.reach import reach
from dcao.state.tensors import Kept, Watched, can_be_kept
from dcao.vectors import unique

LOOSE_BYTES = 2**22
"""Bytes of tensors beside parameters and buffers that are copied on suspicion, the nearest first. The rest is taken for
data until it is seen to change."""


Surroundings = Callable[[], tuple[Sequence[object], Sequence[Place]]]
"""Objects to look through for state, and places of state whose content is not looked into."""


def no_surroundings() -> tuple[Sequence[object], Sequence[Place]]:
    """There is no trainer around the loss."""
    return (), ()


class Moving:
    """Tensors that the loss of this run was seen to change, which are copied from then on."""

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[Tensor]] = {}
        self.has_looked = False
        self.has_failed = False  # and this has been said

    def __contains__(self, tensor: Tensor) -> bool:
        known = self._known.get(id(tensor))
        return known is not None and known() is tensor

    def add(self, tensor: Tensor) -> None:
        """Remember a tensor."""
        self._known[id(tensor)] = weakref.ref(tensor)

    def __reduce__(self) -> tuple[type[Moving], tuple[()]]:
        return Moving, ()  # a copy of the optimizer looks for itself


class Start:
    """The state that a loss reaches, as it was when this was made: every evaluation starts from it.

    Parameters that the optimizer does not own are copied while they take no more memory than its own. More of them (a
    frozen backbone) are read once, before and after the first training pass, and copied if they have changed; from then
    on what changes them in place is seen by their versions.

    Args:
        loss_fn: The loss, a closure, or several of them.
        params: The optimizer's parameters, which a probe moves itself.
        modules: Modules of its model.
        moving: What losses of this run have been seen to change.
        places: More places whose content they may change.

    Attributes:
        modules: Those, and all others that the loss reaches.
        leaves: Other tensors that it reaches and whose ``.grad`` a closure may fill.
        buffers: Buffers of each module, by its id, as they were bound.
        contents: Copies of the buffers that an evaluation gets in copies, by the id of the buffer.
    """

    def __init__(
        self,
        loss_fn: object,
        params: Iterable[Tensor],
        modules: Sequence[nn.Module],
        moving: Moving,
        places: Sequence[Place] = (),
    ) -> None:
        params, self._moving = list(params), moving
        gather_nothing(modules)
        found = reach(loss_fn, modules, params)
        self.modules = unique((*modules, *found.modules))
        replicas = [module for module in self.modules if isinstance(module, DistributedDataParallel)]
        self._places = [(place, place.read()) for place in (*found.places, *places)]
        self._training = [(module, module.training) for module in self.modules]
        self.buffers = {id(m): dict(m._buffers) for m in self.modules if not isinstance(m, torch.jit.ScriptModule)}
        own = {id(p) for p in params}
        loose = [t for t in found.tensors if id(t) not in own]
        self.leaves = [t for t in loose if t.requires_grad and t.is_leaf]
        in_place = self._copy_buffers({id(t) for t in loose}, all_in_place=bool(replicas))
        self._in_place = set(map(id, in_place))
        known = {*own, *self.contents, *self._in_place}
        foreign = [p for m in self.modules for p in m._parameters.values() if p is not None and id(p) not in known]
        known |= set(map(id, foreign))
        self._kept = [Kept.now(t) for t in in_place if can_be_kept(t)]
        self._watched: list[Watched] = []
        self._take_foreign(foreign, sum(p.nbytes for p in params if not is_lazy(p)))
        self._take_loose([t for t in loose if id(t) not in known and can_be_kept(t)])
        self._is_settled, self._is_complete = False, True

    @property
    def is_complete(self) -> bool:
        """Whether all that the training pass has changed was copied before. Ask after it.

        If not, evaluations start from what it has left of the rest, and from the next time on nothing is missing.
        """
        self._settle()
        return self._is_complete

    def is_in_place(self, buffer: Tensor) -> bool:
        """Whether an evaluation gets a buffer itself, and not a copy."""
        return id(buffer) in self._in_place

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Context in which the state is that of the start; on leaving it is bit for bit what it was on entering."""
        self._settle()
        places = [(place, place.read()) for place, _ in self._places]
        tensors = [Kept.now(kept.tensor) for kept in self._kept]
        try:
            for place, content in self._places:
                place.write(content)
            for module, training in self._training:  # leave_no_trace puts them back
                if module.training is not training:
                    module.training = training
            for now, start in zip(tensors, self._kept, strict=True):
                now.write(start.content)
            yield
        finally:
            for now in tensors:
                now.restore()
            for place, content in places:
                place.write(content)

    def _copy_buffers(self, loose: set[int], *, all_in_place: bool) -> list[Tensor]:
        """Copy the buffers; returns those that an evaluation has to change where they are.

        These are reached by another way as well, or share their memory, or belong to a scripted module, or to
        DistributedDataParallel, which sends the buffers that it was built with. The others are swapped for copies,
        which a graph may go on to hold.
        """
        shared = sharing_memory(self.modules)
        self.contents: dict[int, Tensor] = {}
        in_place = {id(b): b for m in self.modules if id(m) not in self.buffers for b in m.buffers(recurse=False)}
        for names in self.buffers.values():
            for buffer in names.values():
                if buffer is None:
                    continue
                if all_in_place or id(buffer) in loose or id(buffer) in shared or is_lazy(buffer):
                    in_place[id(buffer)] = buffer
                elif id(buffer) not in self.contents:
                    self.contents[id(buffer)] = buffer.detach().clone()
        return list(in_place.values())

    def _take_foreign(self, foreign: Sequence[Tensor], own_bytes: int) -> None:
        foreign = [p for p in unique(foreign) if can_be_kept(p)]
        is_small = sum(p.nbytes for p in foreign) <= own_bytes
        for p in foreign:
            if is_small or p in self._moving:
                self._kept.append(Kept.now(p))
            else:
                self._watched.append(Watched.now(p, closely=not self._moving.has_looked))

    def _take_loose(self, loose: Sequence[Tensor]) -> None:
        left = LOOSE_BYTES
        for tensor in loose:
            left -= tensor.nbytes
            if left >= 0 or tensor in self._moving:
                self._kept.append(Kept.now(tensor))
            else:
                self._watched.append(Watched.now(tensor, closely=False))

    def _settle(self) -> None:
        """Once, after the training pass: see what it has changed."""
        if self._is_settled:
            return
        self._is_settled = self._moving.has_looked = True
        for watched in self._watched:
            if watched.has_changed():
                self._moving.add(watched.tensor)
                self._kept.append(Kept.now(watched.tensor))
                self._is_complete = False
        self._watched = []
