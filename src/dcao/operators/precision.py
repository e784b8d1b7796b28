"""Half precision: which tensors have it, and whether a loss is computed in it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from dcao.operators.graph import graph_nodes

HALF_PRECISION = (torch.bfloat16, torch.float16)
"""The coarser one first."""


def half_precision_of(loss: Any) -> torch.dtype | None:
    """Half-precision dtype in which gradients of this loss flow, the coarser of two; None if there is none.

    Autocast and frozen half-precision layers show in the graph, also after the backward pass. What a compiled function
    computes inside does not. A loss without a graph says nothing.

    Example:
        >>> w = torch.ones(2, requires_grad=True)
        >>> half_precision_of(w.bfloat16().sum().float()), half_precision_of(w.sum())
        (torch.bfloat16, None)
    """
    found = {metadata.dtype for node in graph_nodes(loss) for metadata in node._input_metadata}
    return coarsest_half(found)


def coarsest_half(dtypes: Collection[torch.dtype | None]) -> torch.dtype | None:
    """The half-precision dtype among these, the coarser of two; None if there is none.

    Example:
        >>> coarsest_half([torch.float16, torch.bfloat16, torch.float32])
        torch.bfloat16
    """
    return next((dtype for dtype in HALF_PRECISION if dtype in dtypes), None)


def is_half(tensor: Any) -> bool:
    """Whether this is a tensor in half precision, float16 or bfloat16."""
    return isinstance(tensor, Tensor) and tensor.dtype in HALF_PRECISION
