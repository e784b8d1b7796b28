"""What an optimizer holds between steps: momentum, averages, factors, copies to go back to."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_CONTAINERS = (list, tuple, set, frozenset)


def held_copies(optimizer: torch.optim.Optimizer, model: nn.Module) -> float:
    """Bytes of all tensors that only the optimizer holds, in copies of the model's parameters.

    A count and no measurement: the same on every machine, and not hidden by what else a process has. What a step needs
    only while it is made is not in it.

    Example:
        >>> model = nn.Linear(100, 100, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> held_copies(optimizer, model)
        0.0
        >>> model(torch.ones(1, 100)).sum().backward()
        >>> optimizer.step()
        >>> held_copies(optimizer, model)
        1.0
    """
    params = list(model.parameters())
    others = [*params, *model.buffers(), *(param.grad for param in params if param.grad is not None)]
    sizes = {_storage(tensor): tensor.untyped_storage().nbytes() for tensor in _tensors_of(optimizer)}
    for tensor in others:
        sizes.pop(_storage(tensor), None)
    return sum(sizes.values()) / sum(param.numel() * param.element_size() for param in params)


def _storage(tensor: Tensor) -> tuple[torch.device, int]:
    return tensor.device, tensor.untyped_storage().data_ptr()


def _tensors_of(root: object) -> Iterator[Tensor]:
    """Every tensor that can be reached from ``root`` by attributes, items and values."""
    waiting, seen = [root], set[int]()
    while waiting:
        found: Any = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, Tensor):
            yield found
        elif isinstance(found, Mapping):
            waiting += found.values()
        elif isinstance(found, _CONTAINERS):
            waiting += found
        elif not isinstance(found, type):
            waiting += vars(found).values() if hasattr(found, "__dict__") else ()
