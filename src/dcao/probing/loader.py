"""ProbeLoader: batches for probes drawn from a loader, in place of the training batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from dcao.isolation import RngState, restore_rng, seeded_rng
from dcao.probing.batch import Batch

MAX_DEPTH = 8
"""How deep a batch is searched for its first tensor; an object that refers to itself has no end."""


class ProbeLoader:
    """Batches for probes drawn from a loader, in place of the training batch.

    A probe on independent batches measures the load by its definition, over every pair of different batches, and costs
    two gradient evaluations a batch.

    Args:
        loader: Any re-iterable of batches, such as a DataLoader. It is started again when it ends.
        batch_loss: ``batch_loss(batch)`` returns the mean loss of a batch with its graph.
        num_batches: Batches per probe.
        batch_size: ``batch_size(batch)`` returns its size, which weights ragged batches; default: the length of the
            first tensor or array in the batch, be it a sequence, a mapping or an object with attributes.
        seed: Shuffling of the loader draws from this seed, not from the training's random stream.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        batch_loss: Callable[[Any], Tensor],
        *,
        num_batches: int = 4,
        batch_size: Callable[[Any], float] | None = None,
        seed: int = 0,
    ) -> None:
        if num_batches < 1:
            raise ValueError(f"num_batches must be at least 1, got {num_batches}")
        if isinstance(loader, Iterator):
            raise TypeError("loader must be re-iterable, such as a DataLoader or a list, got a one-pass iterator")
        self.loader, self.batch_loss, self.num_batches, self.seed = loader, batch_loss, num_batches, seed
        self.batch_size = batch_size or first_length
        self._epoch, self._position = 0, 0
        self._iterator: Iterator[Any] | None = None
        self._drawn: list[Any] = []

    def draw(self, rng_state: RngState, *, keep: bool = False) -> list[Batch]:
        """The next batches; call it inside :func:`leave_no_trace`.

        Args:
            rng_state: Random streams from which their loss is evaluated.
            keep: Whether to hold them for :meth:`draw_again`, which else has to read them again.
        """
        drawn = [self._next(rng_state) for _ in range(self.num_batches)]
        self._drawn = drawn if keep else []
        return self._as_batches(drawn, rng_state)

    def draw_again(self, rng_state: RngState) -> list[Batch]:
        """The batches of the last draw (before the first: of that one), without moving on."""
        if not self._drawn:
            twin = copy(self)  # without the iterator
            twin._position = max(0, self._position - self.num_batches)
            self._drawn = [twin._next(rng_state) for _ in range(self.num_batches)]
        return self._as_batches(self._drawn, rng_state)

    def _as_batches(self, drawn: list[Any], rng_state: RngState) -> list[Batch]:
        batches = []
        for batch in drawn:
            batches.append(self._as_batch(batch, rng_state))
            rng_state = _fresh_streams(rng_state)  # a dropout mask that batches share would count as signal
        return batches

    def state_dict(self) -> dict[str, int]:
        """Position in the loader."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go back to a position; the loader is read up to it at the next draw."""
        self._iterator, self._epoch, self._position = None, state["epoch"], state["position"]
        self._drawn = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_iterator": None, "_drawn": []}

    def _next(self, rng_state: RngState) -> Any:
        for _ in range(2):
            if self._iterator is None:
                restore_rng(seeded_rng(self.seed + self._epoch, like=rng_state))
                self._iterator = iter(self.loader)
                for _ in range(self._position):
                    next(self._iterator, None)
            for batch in self._iterator:
                self._position += 1
                return batch
            self._iterator, self._epoch, self._position = None, self._epoch + 1, 0
        raise ValueError("the probe's loader gave no batch; it must hold at least one")

    def _as_batch(self, batch: Any, rng_state: RngState) -> Batch:
        weight = float(self.batch_size(batch))
        return Batch(loss_fn=lambda: self.batch_loss(batch), weight=weight, rng_state=rng_state)


def _fresh_streams(state: RngState) -> RngState:
    """Streams independent of ``state``'s and determined by it."""
    generator = torch.Generator("cpu")
    generator.set_state(state.cpu)
    return seeded_rng(int(torch.randint(2**62, (), generator=generator, device="cpu")), like=state)


def first_length(batch: Any) -> int:
    """Length of the first tensor or array with rows in a batch: itself, or in its parts, in their order.

    Parts are those of sequences (named tuples too), mappings (such as a ``BatchEncoding``), dataclasses and objects
    with attributes. Texts, numbers and tensors without rows are passed over.

    Raises:
        TypeError: There is none.

    Example:
        >>> first_length({"name": "train", "scale": 2.0, "inputs": torch.ones(4, 3)})
        4
    """
    for length in _lengths(batch, depth=0):
        return length
    raise TypeError(f"cannot tell the size of a batch of type {type(batch).__name__}; pass batch_size=")


def _lengths(part: Any, depth: int) -> Iterator[int]:
    """The lengths of the tensors and arrays with at least one dimension in a batch, in order."""
    if isinstance(part, Tensor):  # a nested one has no shape
        yield from [part.size(0)] if part.dim() else []
    elif isinstance(shape := getattr(part, "shape", None), tuple):
        yield from shape[:1]
    elif depth < MAX_DEPTH:
        for inner in _parts(part):
            yield from _lengths(inner, depth + 1)


def _parts(whole: Any) -> Iterable[Any]:
    if isinstance(whole, Mapping):
        return whole.values()
    if isinstance(whole, (str, bytes, type, Iterator)):  # an iterator would be used up
        return ()
    if isinstance(whole, Iterable):
        return whole
    if is_dataclass(whole):
        return [getattr(whole, each.name) for each in fields(whole)]
    return getattr(whole, "__dict__", {}).values()
