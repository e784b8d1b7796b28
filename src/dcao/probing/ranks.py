"""Probing on several ranks: every rank must reach the same decision, or what they train drifts apart.

DistributedDataParallel leaves in ``.grad`` the mean over ranks of the gradients of their batches: to DCAO, the batch is
all of them. What a probe evaluates again is averaged in the same way, and everything that follows is then the same on
every rank. Gradients of sharded parameters are reduced as they are evaluated; vectors stay sharded
(:mod:`dcao.layout`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dcao.layout import ShardedLayout, layout_of
from dcao.operators.base import LinearOperator, WrappedOperator
from dcao.operators.differentiation import GradRefused
from dcao.shards import Gathering, whole_value
from dcao.state.tensors import Kept, can_be_kept

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes that train one model together.

    Attributes:
        group: Their process group; None: all that there are.
        device: The device on which they talk to each other.
        are_replicas: Whether each holds the whole model, and evaluates gradients of its own batch alone.
        gathering: What a forward pass of sharded parameters gathers.
    """

    group: dist.ProcessGroup | None
    device: torch.device
    are_replicas: bool
    gathering: Gathering = field(default_factory=Gathering)


class FailedElsewhere(RuntimeError):
    """Another rank could not evaluate its loss, so that this one has nothing to go on with."""

    def __init__(self) -> None:
        super().__init__("the loss could not be evaluated on another rank")


def ranks_of(params: Sequence[Tensor], modules: Sequence[nn.Module]) -> Ranks | None:
    """The processes among which ``params`` are spread, or which hold replicas of ``modules``; None for one process."""
    layout = layout_of(params)
    if isinstance(layout, ShardedLayout):
        device = torch.empty(0, device=layout.mesh.device_type).device
        return Ranks(group=layout.group, device=device, are_replicas=False, gathering=Gathering(modules))
    for module in modules:
        if isinstance(module, DistributedDataParallel):
            return Ranks(group=module.process_group, device=params[0].device, are_replicas=True)
    return None


def mean_over_ranks(tensor: Tensor, ranks: Ranks) -> Tensor:
    """Mean of ``tensor`` over the ranks, in place."""
    dist.all_reduce(tensor, group=ranks.group)  # a sum: gloo has no mean
    return tensor.div_(dist.get_world_size(ranks.group))


def mean_loss(loss: Tensor | float | None, ranks: Ranks) -> float:
    """The mean of the losses of ranks that train one model; nan if one of them has none. All ranks have to call it."""
    value = torch.full((), float("nan"), dtype=torch.float64, device=ranks.device)
    if loss is not None:
        value.fill_(float(whole_value(loss.detach() if isinstance(loss, Tensor) else loss)))
    return float(mean_over_ranks(value, ranks))


def is_initialized() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized()


def on_any_rank(flag: bool, ranks: Ranks | None) -> bool:
    """Whether ``flag`` is set on any of the ranks; without ranks, on this one."""
    return flag if ranks is None else _worst(int(flag), ranks) > 0


def together(evaluate: Callable[[], T], ranks: Ranks | None) -> T:
    """What ``evaluate`` returns, if it does so on every rank; else it raises on all of them.

    Raises:
        GradRefused: ``evaluate`` has raised this on some rank: it has to be called again.
        FailedElsewhere: It has raised something else on another rank.
    """
    if ranks is None:
        return evaluate()
    results, errors = list[T](), list[Exception]()
    try:
        results.append(evaluate())
    except Exception as error:
        errors.append(error)
    own = 0 if not errors else 1 if isinstance(errors[0], GradRefused) else 2
    worst = _worst(own, ranks)
    if worst == 0:
        return results[0]
    if own == worst:
        raise errors.pop()
    raise GradRefused("on another rank") if worst == 1 else FailedElsewhere


def _worst(value: int, ranks: Ranks) -> int:
    """The largest value that any rank has."""
    values = torch.tensor([float(value)], device=ranks.device)
    dist.all_reduce(values, op=dist.ReduceOp.MAX, group=ranks.group)
    return int(values.item())


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


@contextmanager
def evaluating_replicas(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Context of a probe, in which no forward or backward pass of a DDP module waits for other ranks.

    So a rank whose loss raises holds nobody up. Buckets that the next forward pass would rebuild are rebuilt before.
    """
    replicas = [module for module in modules if isinstance(module, DistributedDataParallel)]
    flags = [module.require_forward_param_sync for module in replicas]
    try:
        for module in replicas:
            module._has_rebuilt_buckets = module.reducer._rebuild_buckets() or module._has_rebuilt_buckets
            module.require_forward_param_sync = False
        with without_gradient_sync(replicas):
            yield
    finally:
        for module, flag in zip(replicas, flags, strict=True):
            module.require_forward_param_sync = flag


@contextmanager
def with_buffers_sent(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Context in which replicas of DDP have the buffers that the coming forward pass will send to all ranks."""
    replicas: list[Any] = [module for module in modules if isinstance(module, DistributedDataParallel)]
    replicas = [replica for replica in replicas if replica._check_sync_bufs_pre_fwd()]
    kept = [Kept.now(buffer) for replica in replicas for buffer in replica.buffers() if can_be_kept(buffer)]
    try:
        for replica in replicas:
            replica._sync_buffers()
        yield
    finally:
        for each in kept:
            each.restore()


class MeanOverRanksOperator(WrappedOperator):
    """Mean over ranks of an operator that each rank has for its own batch."""

    def __init__(self, operator: LinearOperator, ranks: Ranks) -> None:
        super().__init__(operator)
        self.ranks = ranks

    def matvec(self, vector: Tensor) -> Tensor:
        """The mean of the ranks' products."""
        return mean_over_ranks(together(lambda: self._inner_matvec(vector), self.ranks), self.ranks)
