"""Copies of tensors that may lie on another device, in another precision than what they are copies of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Form:
    """Where copies are kept, and how wide.

    Attributes:
        device: None: where the originals are.
        dtype: Of real tensors that are wider; None: that of the originals. Single numbers, as that of the step, keep
            theirs.
    """

    device: torch.device | None = None
    dtype: torch.dtype | None = None

    def copy(self, original: Tensor, *, exact: bool = False) -> Tensor:
        """A copy; ``exact`` has the dtype of the original."""
        device = original.device if self.device is None else self.device
        narrows = not exact and original.is_floating_point() and original.dim() > 0 and original.itemsize > 2
        dtype = self.dtype if narrows and self.dtype is not None else original.dtype
        pins = device.type == "cpu" and original.is_cuda  # training need not wait for a copy into pinned memory
        empty = torch.empty_like(original, device=device, dtype=dtype, requires_grad=False, pin_memory=pins)
        return empty.copy_(original, non_blocking=pins)

    def is_that_of(self, tensor: Tensor) -> bool:
        """Whether a tensor is in this form already."""
        return self.device in (None, tensor.device) and self.dtype in (None, tensor.dtype)


@dataclass
class Kept:
    """A copy of a tensor, and what makes a tensor of the original's kind of it."""

    content: Tensor
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, original: Tensor, form: Form, *, exact: bool = False) -> Kept:
        """A copy in a form."""
        return cls(content=form.copy(original, exact=exact), device=original.device, dtype=original.dtype)

    def fits(self, original: object) -> bool:
        """Whether this could be a copy of it."""
        if not isinstance(original, Tensor):
            return False
        return (original.device, original.dtype, original.shape) == (self.device, self.dtype, self.content.shape)

    def take(self, original: Tensor) -> None:
        """Copy it in the same memory."""
        self.content.copy_(original, non_blocking=original.is_cuda)

    def live(self) -> Tensor:
        """It as the original was: the copy itself if it has that form."""
        return self.content.to(self.device, self.dtype)


def kept_state(state: dict[str, Any], form: Form) -> dict[str, Any]:
    """What an optimizer keeps for a parameter, its tensors copied."""
    return {key: Kept.of(value, form) if isinstance(value, Tensor) else value for key, value in state.items()}


def held_state(state: dict[str, Any], form: Form, *, exact: bool) -> dict[str, Any]:
    """The same of a state that nobody else holds any more: tensors that have the form are not copied."""
    wanted = Form(device=form.device) if exact else form
    held = dict(state)
    for key, value in state.items():
        if isinstance(value, Tensor):
            is_there = wanted.is_that_of(value)
            held[key] = Kept(value, value.device, value.dtype) if is_there else Kept.of(value, form, exact=exact)
    return held


def live_state(kept: dict[str, Any]) -> dict[str, Any]:
    """A state as an optimizer has it, from its copy."""
    return {key: value.live() if isinstance(value, Kept) else value for key, value in kept.items()}
