"""A training batch in parts: the mean of several losses, of which only one has its graph in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from dcao.isolation import RngState
from dcao.operators.base import LossFn
from dcao.probing.batch import Batch, evaluate_and_backward
from dcao.probing.ranks import without_gradient_sync


class MeanOfLosses:
    """A closure that leaves the gradient of the mean of several losses in ``.grad`` and returns that mean, detached.

    Each backward pass follows its forward pass at once. Replicas of DistributedDataParallel average their gradients in
    the last one.

    Args:
        loss_fns: At least one.
        modules: Modules of the model, of which those of DistributedDataParallel matter.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(1))
        >>> mean = MeanOfLosses([lambda: (1 * w).sum(), lambda: (3 * w).sum()])
        >>> mean(), w.grad
        (tensor(2.), tensor([2.]))
    """

    def __init__(self, loss_fns: Sequence[LossFn], modules: Sequence[nn.Module] = ()) -> None:
        self.loss_fns, self.modules = loss_fns, modules

    def __call__(
        self, before_each: Callable[[], None] = lambda: None, check: Callable[[Tensor], None] = lambda loss: None
    ) -> Tensor:
        """The mean; its gradient is added to what is in ``.grad``. The last of the losses is checked at the end."""
        count, losses = len(self.loss_fns), list[Tensor]()
        for index, loss_fn in enumerate(self.loss_fns):
            before_each()
            with nullcontext() if index == count - 1 else without_gradient_sync(self.modules):
                loss = evaluate_and_backward(loss_fn, share=1.0 / count)
            losses.append(loss.detach())
        check(loss)
        return torch.stack(losses).mean()


def mean_of_losses(loss_fns: Sequence[LossFn], start: RngState) -> Batch:
    """The batch of the coming step, which is not evaluated yet: the mean of these losses."""
    if len(loss_fns) == 1:
        return Batch(loss_fn=loss_fns[0], rng_state=start, is_coming=True)
    return Batch(closure=MeanOfLosses(loss_fns), rng_state=start, is_coming=True)
