"""In which precision a loss is computed, read from its graph."""

from __future__ import annotations

from typing import Any

import torch

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
    return next((dtype for dtype in HALF_PRECISION if dtype in found), None)
