"""The forward and backward passes of a training step, watched if a probe is going to look at what they leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dcao.gradients.backward_watch import BackwardWatch
from dcao.gradients.gradient_mark import GradientMark
from dcao.gradients.since_backward import SinceBackward
from dcao.isolation import RngState, capture_rng
from dcao.operators.base import LossFn
from dcao.operators.precision import half_precision_of
from dcao.probing.batch import Batch, Closure, evaluate_and_backward
from dcao.probing.micro_batches import MeanOfLosses
from dcao.probing.probe import Probe
from dcao.probing.ranks import is_initialized


def run_losses(
    loss_fns: Sequence[LossFn],
    probe: Probe,
    rng_state: RngState | None,
    check: Callable[[Tensor], None],
    *,
    clip_norm: float | None = None,
) -> Batch:
    """The batch of a training step, after backward passes have filled ``.grad`` with the gradient of its mean loss.

    Args:
        loss_fns: Its loss, or the losses of its parts.
        probe: What may measure it.
        rng_state: What evaluations start from if the batch is going to be probed; None if not.
        check: Refuses a loss, after its backward pass.
        clip_norm: Length to which the gradient is going to be clipped.
    """
    is_probed, streams = rng_state is not None, list[RngState]()
    precision: torch.dtype | None = None

    def see(loss: Tensor) -> None:
        nonlocal precision
        check(loss)
        precision = half_precision_of(loss) if is_probed else None

    loss_fn: LossFn | None = None
    closure: MeanOfLosses | None = None
    if len(loss_fns) == 1:
        loss_fn = loss_fns[0]
        loss = evaluate_and_backward(loss_fn)
        see(loss)
    else:
        closure = MeanOfLosses(loss_fns, probe.model.look()[0] if is_initialized() else ())
        loss = closure(lambda: streams.append(capture_rng(probe.params())) if is_probed else None, see)
        streams = [replace(each, start=rng_state.start) for each in streams if rng_state is not None]
    return Batch(
        loss_fn=loss_fn,
        closure=closure,
        parts=[Batch(loss_fn=part, rng_state=stream) for part, stream in zip(loss_fns, streams, strict=False)],
        rng_state=rng_state,
        loss=loss.detach(),
        precision=precision,
        is_training=True,
        differentiation=probe.differentiation,
        clip_norm=clip_norm,
        since_backward=SinceBackward(mark=GradientMark(probe.params())) if is_probed else None,
    )


def run_closure(
    closure: Closure, probe: Probe, rng_state: RngState | None, *, optimizers: Sequence[Optimizer]
) -> tuple[Any, Batch]:
    """What the closure of a training step returns, and its batch.

    Args:
        closure: Calls backward, and returns the loss.
        probe: What may measure it.
        rng_state: What evaluations start from if the batch is going to be probed; None if not.
        optimizers: Those whose gradients a GradScaler in the closure may unscale.
    """
    watch = None if rng_state is None else BackwardWatch(probe.params(), modules=probe.model.look()[0])
    with torch.enable_grad(), watch or nullcontext():
        loss = closure()
    value = loss.detach() if isinstance(loss, Tensor) else loss
    since = None if watch is None else SinceBackward.of_closure(watch, probe.model, *optimizers)
    precision = None if watch is None else half_precision_of(loss)
    return loss, Batch(
        closure=closure,
        rng_state=rng_state,
        loss=value,
        precision=precision,
        is_training=True,
        differentiation=probe.differentiation,
        since_backward=since,
    )
