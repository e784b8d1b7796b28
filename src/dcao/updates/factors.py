"""``step_size / P`` of the parameters of one block, made together where nothing but their tensors tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dcao.blocks import blocks, parts_of, pieces_of
from dcao.shards import local_part
from dcao.updates.model import Group, OptimizerModel, ParamState
from dcao.vectors import as_real


def block_factors(
    record: OptimizerModel,
    groups: Sequence[Group],
    states: Sequence[ParamState],
    like: Sequence[Tensor],
    gradient: Tensor,
    step_sizes: Sequence[float],
) -> Tensor:
    """The factors, flat, in float32 or wider.

    Args:
        record: The record of the optimizer's class.
        groups: The param group of each parameter.
        states: Its state.
        like: The parameters.
        gradient: Their gradients, as one block.
        step_sizes: The step size of each parameter's dynamics.
    """
    common = _common_state(states, like) if record.is_entrywise and len({id(group) for group in groups}) == 1 else None
    if common is None:
        each = zip(pieces_of([gradient], like), groups, states, step_sizes, strict=True)
        return blocks([_over(size, record.denominator(group, state, grad), grad) for grad, group, state, size in each])[
            0
        ]
    tensors, rest = common
    factors = torch.empty_like(gradient, dtype=torch.promote_types(gradient.dtype, torch.float32))
    for out, part, *values in parts_of([factors], [gradient], *([tensor] for tensor in tensors.values())):
        state = {**rest, **dict(zip(tensors, values, strict=True))}
        denominator = record.denominator(groups[0], state, part)
        if denominator is None:
            out.fill_(step_sizes[0])
        else:
            torch.div(torch.tensor(step_sizes[0], dtype=out.dtype), denominator.to(out), out=out)
    return factors


def _over(step_size: float, denominator: Tensor | None, grad: Tensor) -> Tensor:
    return torch.full_like(grad, step_size) if denominator is None else step_size / denominator


def _common_state(
    states: Sequence[ParamState], like: Sequence[Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The states' tensors of the parameters' shapes, as blocks, and the rest; None if that differs."""
    if any(p.dim() == 0 for p in like):  # its average cannot be told from a step number
        return None
    keys, rests = [], []
    for state, p in zip(states, like, strict=True):
        shape = as_real(local_part(p).detach()).shape
        keys.append([key for key, value in state.items() if isinstance(value, Tensor) and value.shape == shape])
        rests.append({key: _plain(value) for key, value in state.items() if key not in keys[-1]})
    if any(own != keys[0] for own in keys) or any(rest != rests[0] for rest in rests):
        return None
    rest = {key: value for key, value in states[0].items() if key not in keys[0]}
    return {key: blocks([state[key] for state in states])[0] for key in keys[0]}, rest


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) else value
