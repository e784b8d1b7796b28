"""Probing under DistributedDataParallel: every rank must reach the same decision, or the replicas drift apart.

DDP leaves in ``.grad`` the mean over ranks of the gradients of their batches: to DCAO, the batch is all of them. What a
probe evaluates again is averaged in the same way, and everything that follows is then the same on every rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dcao.operators.base import LinearOperator, WrappedOperator


def mean_over_ranks(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Mean of ``tensor`` over the ranks of ``group``, in place."""
    dist.all_reduce(tensor, group=group)  # a sum: gloo has no mean
    return tensor.div_(dist.get_world_size(group))


def mean_loss(loss: Tensor | float | None, group: dist.ProcessGroup, like: Tensor) -> float:
    """The mean of the losses of ranks that train replicas of one model; nan if one of them has none.

    All ranks have to call it, with a tensor on the device on which they talk to each other.
    """
    value = torch.full((), float("nan"), dtype=torch.float32, device=like.device)
    if loss is not None:
        value.copy_(loss.detach().reshape(()) if isinstance(loss, Tensor) else torch.tensor(float(loss)))
    return float(mean_over_ranks(value, group))


def is_initialized() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized()


def on_any_rank(flag: bool, group: dist.ProcessGroup | None, params: Sequence[Tensor]) -> bool:
    """Whether ``flag`` is set on any rank of ``group``; without a group, on this one."""
    if group is None:
        return flag
    flags = torch.tensor([float(flag)], device=params[0].device)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=group)
    return bool(flags.item())


@contextmanager
def without_gradient_sync(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Context in which DDP modules do not wait for the backward pass of a training step, which a probe never runs."""
    replicas = [module for module in modules if isinstance(module, DistributedDataParallel)]
    flags = [module.require_backward_grad_sync for module in replicas]
    try:
        for module in replicas:
            module.require_backward_grad_sync = False
        yield
    finally:
        for module, flag in zip(replicas, flags, strict=True):
            module.require_backward_grad_sync = flag


class MeanOverRanksOperator(WrappedOperator):
    """Mean over ranks of an operator that each rank has for its own batch."""

    def __init__(self, operator: LinearOperator, group: dist.ProcessGroup) -> None:
        super().__init__(operator)
        self.group = group

    def matvec(self, vector: Tensor) -> Tensor:
        """The mean of the ranks' products."""
        return mean_over_ranks(self._inner_matvec(vector), self.group)
