"""Tensors that are written where they are: copies to go back to, and a cheap look whether one has changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from dcao.shards import local_part
from dcao.vectors import as_real

CHUNK = 2**20
"""Entries that are summed at once: on a CPU the sum makes a copy of them in int64."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A tensor with its memory, its content and its version, to which it can be put back.

    Attributes:
        tensor: The tensor itself.
        data: An alias of its memory.
        content: A copy.
        version: How often it had been changed in place; graphs that hold it are valid at this version alone.
    """

    tensor: Tensor
    data: Tensor
    content: Tensor
    version: int

    @classmethod
    def now(cls, tensor: Tensor) -> Kept:
        """As it is now."""
        data = tensor.detach()
        return cls(tensor=tensor, data=tensor.data, content=data.clone(), version=tensor._version)

    def write(self, content: Tensor) -> None:
        """Another content, unseen by graphs that hold the tensor."""
        if self.is_elsewhere():
            self.tensor.data = self.data
        self.data.copy_(content)

    def is_elsewhere(self) -> bool:
        """Whether the tensor has been given other memory (``p.data = ...``)."""
        return _address(self.tensor) != _address(self.data) or self.tensor.shape != self.data.shape

    def restore(self) -> None:
        """Memory, content and version as they were."""
        self.write(self.content)
        torch._C._autograd._unsafe_set_version_counter((self.tensor,), (self.version,))


def can_be_kept(tensor: Tensor) -> bool:
    """Whether a tensor can be changed in place, and so has to be put back; False also for what cannot be copied."""
    if is_lazy(tensor) or tensor.layout is not torch.strided or tensor.device.type == "meta" or tensor.is_inference():
        return False
    if tensor.numel() and not is_traceable_wrapper_subclass(tensor) and tensor.untyped_storage().size() == 0:
        return False  # its memory was given back, as of parameters that FullyShardedDataParallel does not gather now
    is_expanded = any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    return not is_expanded


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A tensor that is not copied, and how to tell that it has changed.

    Attributes:
        tensor: The tensor itself.
        marks: Its version and address.
        fingerprint: A sum of all its bits; None if nothing but the marks is looked at.
    """

    tensor: Tensor
    marks: tuple[int, int]
    fingerprint: Tensor | None

    @classmethod
    def now(cls, tensor: Tensor, *, closely: bool) -> Watched:
        """Watch from now on; ``closely`` reads all of it, which also sees what is written through ``.data``."""
        return cls(tensor=tensor, marks=_marks(tensor), fingerprint=fingerprint([tensor]) if closely else None)

    def has_changed(self) -> bool:
        """Whether it is another than it was."""
        if _marks(self.tensor) != self.marks:
            return True
        return self.fingerprint is not None and not torch.equal(fingerprint([self.tensor]), self.fingerprint)


def fingerprint(tensors: Iterable[Tensor]) -> Tensor:
    """Sums of the bits of each tensor, read as whole numbers: a change of one entry always shows.

    Example:
        >>> weights = torch.zeros(3)
        >>> before = fingerprint([weights])
        >>> weights.data[1] = 1e-30
        >>> torch.equal(fingerprint([weights]), before)
        False
    """
    return torch.stack([_sum_of_bits(tensor) for tensor in tensors])


def _sum_of_bits(tensor: Tensor) -> Tensor:
    plain = as_real(local_part(tensor).detach())
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[plain.element_size()]
    bits = plain.reshape(-1).view(whole)
    return torch.stack([chunk.sum(dtype=torch.int64) for chunk in torch.split(bits, CHUNK)]).sum()


def _marks(tensor: Tensor) -> tuple[int, int]:
    return tensor._version, _address(tensor)


def _address(tensor: Tensor) -> int:
    return 0 if is_traceable_wrapper_subclass(tensor) else tensor.data_ptr()
