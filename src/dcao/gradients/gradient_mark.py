"""What ``.grad`` held right after a backward pass, and what has been done to it since: nothing, a scaling, or more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dcao.layout import layout_of
from dcao.shards import gradients_of
from dcao.vectors import entries_of, norms_of, vector_dtype

SAME = 1e-3
"""Two lengths or sums of gradients that differ by less, relative to the length, are the same but for rounding. Half
precision rounds each entry by up to 4e-3, so ten times as much is allowed for there."""


class GradientMark:
    """Gradients as a backward pass has left them: which tensors, at which version, and how long; without a copy.

    Args:
        params: Parameters whose ``.grad`` is looked at.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> w.square().sum().backward()
        >>> mark = GradientMark([w])
        >>> mark.is_unchanged()
        True
        >>> norm = torch.nn.utils.clip_grad_norm_([w], 1.0)
        >>> mark.is_unchanged(), round(mark.factor(), 6)
        (False, 0.1)
    """

    @torch.no_grad()
    def __init__(self, params: Sequence[Tensor]) -> None:
        self._params = params
        self._grads = [p.grad for p in params]  # held, so that no new tensor can take the place of an old one
        self._versions = [_version(grad) for grad in self._grads]
        self._lengths, self._sums = _lengths_and_sums(params)

    @torch.no_grad()
    def is_unchanged(self) -> bool:
        """Whether every ``.grad`` is still the same tensor, and nothing has written to it.

        The values are looked at too: kernels such as that of ``GradScaler.unscale_`` leave the version as it is.
        """
        now = [p.grad for p in self._params]
        same = zip(now, self._grads, self._versions, strict=True)
        if not all(grad is marked and _version(grad) == version for grad, marked, version in same):
            return False
        looked, marked = torch.stack(_lengths_and_sums(self._params)), torch.stack([self._lengths, self._sums])
        return torch.equal(looked.nan_to_num(), marked.nan_to_num())

    @torch.no_grad()
    def length_ratio(self) -> float:
        """Length of all gradients together now, over that at the mark; nan if that was 0."""
        lengths, _ = _lengths_and_sums(self._params)
        return _ratio(lengths, self._lengths)

    @torch.no_grad()
    def factor(self) -> float | None:
        """What all gradients have been multiplied by since; None if they have not all been scaled alike.

        Judged by the length and the sum of the entries of each gradient: a copy would cost memory at every probe.
        """
        now = [p.grad for p in self._params]
        if [grad is None for grad in now] != [grad is None for grad in self._grads]:
            return None
        lengths, sums = _lengths_and_sums(self._params)
        factor = _ratio(lengths, self._lengths)
        if not 0.0 < factor < math.inf:
            return None
        is_narrow = any(grad is not None and grad.dtype.itemsize < 4 for grad in now)
        allowed = (10.0 if is_narrow else 1.0) * SAME * factor * self._lengths
        moved = torch.maximum((lengths - factor * self._lengths).abs(), (sums - factor * self._sums).abs())
        return factor if bool((moved <= allowed).all()) else None


def _ratio(now: Tensor, before: Tensor) -> float:
    length = float(torch.linalg.vector_norm(before))
    return float(torch.linalg.vector_norm(now)) / length if length > 0.0 else math.nan


def _version(grad: Tensor | None) -> int:
    return -1 if grad is None or grad.is_inference() else grad._version


def _lengths_and_sums(params: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Length and sum of the entries of each gradient, in float32 or wider, on the device of the first."""
    found = gradients_of(params)
    if not found:
        return torch.zeros(1), torch.zeros(1)
    entries = [entries_of(grad) for grad in found]
    lengths = norms_of(entries)
    sums = torch.stack([each.sum(dtype=vector_dtype([each])).to(lengths) for each in entries])
    return layout_of(found).norm_and_sum_each(lengths, sums)
