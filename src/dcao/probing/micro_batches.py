"""A training batch in parts: the mean of several losses, of which only one has its graph in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from dcao.operators.base import LossFn
from dcao.operators.differentiation import GradRefused
from dcao.operators.loss_scale import LossScale, flows_in_float16
from dcao.probing.batch import Batch, evaluate_and_backward
from dcao.probing.probe import Probe
from dcao.probing.ranks import without_gradient_sync
from dcao.shards import is_shard


class MeanOfLosses:
    """A closure that leaves the gradient of the mean of several losses in ``.grad`` and returns that mean, detached.

    Each backward pass follows its forward pass at once. Replicas of DistributedDataParallel average their gradients in
    the last one.

    Args:
        loss_fns: At least one.
        modules: Modules of the model, of which those of DistributedDataParallel matter.
        scale: Keeps small gradients in float16 from becoming 0, if ``params`` are given; default: nothing does.
        params: The parameters that the losses reach.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(1))
        >>> mean = MeanOfLosses([lambda: (1 * w).sum(), lambda: (3 * w).sum()])
        >>> mean(), w.grad
        (tensor(2.), tensor([2.]))
    """

    def __init__(
        self,
        loss_fns: Sequence[LossFn],
        modules: Sequence[nn.Module] = (),
        *,
        scale: LossScale | None = None,
        params: Sequence[Tensor] = (),
    ) -> None:
        self.loss_fns, self.modules, self.scale, self.params = loss_fns, modules, scale, params

    def __call__(
        self, before_each: Callable[[], None] = lambda: None, check: Callable[[Tensor], None] = lambda loss: None
    ) -> Tensor:
        """The mean; its gradient is added to what is in ``.grad``. The last of the losses is checked at the end."""
        count, losses, are_scaled = len(self.loss_fns), list[Tensor](), list[bool]()

        def share_of(loss: Tensor) -> Tensor:
            if not are_scaled:  # all of them or none, as they are added up
                are_scaled.append(self.scale is not None and flows_in_float16(loss))
            return (self.scale.times(loss) if self.scale is not None and are_scaled[0] else loss) * (1.0 / count)

        for index, loss_fn in enumerate(self.loss_fns):
            before_each()
            with nullcontext() if index == count - 1 else without_gradient_sync(self.modules):
                loss = evaluate_and_backward(loss_fn, weighed=share_of)
            losses.append(loss.detach())
        check(loss)
        if are_scaled[0]:
            self._unscale()
        return torch.stack(losses).mean()

    def _unscale(self) -> None:
        assert self.scale is not None
        filled = [p for p in self.params if p.grad is not None]
        gradients = self.scale.undone([p.grad for p in filled if p.grad is not None])
        if gradients is None:
            raise GradRefused("the gradient of the scaled losses overflows float16")
        for p, gradient in zip(filled, gradients, strict=True):
            p.grad = gradient.to(p.dtype)


def mean_of_losses(loss_fns: Sequence[LossFn], probe: Probe) -> Batch:
    """The batch of the coming step, which ``probe`` has not evaluated yet: the mean of these losses."""
    rng_state = probe.start(loss_fns)
    if len(loss_fns) == 1:
        return Batch(loss_fn=loss_fns[0], rng_state=rng_state, is_coming=True)
    params = probe.params()
    scale = None if any(map(is_shard, params)) else probe.differentiation.scale
    mean = MeanOfLosses(loss_fns, scale=scale, params=params)
    return Batch(closure=mean, rng_state=rng_state, is_coming=True)
