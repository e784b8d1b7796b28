"""The autograd graph behind a loss or its gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def graph_nodes(*outputs: Any) -> Iterator[Any]:
    """Every function in the graphs of ``outputs``, once, nearest outputs first; also after the backward pass.

    What has no graph, as a plain number, has no functions.

    Example:
        >>> import torch
        >>> w = torch.ones(2, requires_grad=True)
        >>> [node.name() for node in graph_nodes(w.square().sum())]
        ['SumBackward0', 'PowBackward0', 'torch::autograd::AccumulateGrad']
    """
    waiting, seen = [getattr(output, "grad_fn", None) for output in outputs], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting.extend(following for following, _ in node.next_functions)
