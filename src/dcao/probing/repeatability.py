"""Whether a loss says the same when it is evaluated again at the same point, which every difference relies on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dcao.blocks import Entrywise, blocks
from dcao.isolation import AUTOCAST_DEVICES
from dcao.layout import layout_of
from dcao.probing.batch import Batch
from dcao.probing.probed_loss import ProbedLoss
from dcao.probing.ranks import on_any_rank
from dcao.sums import joint_length, joint_norm
from dcao.telling.notices import warn

NEVER_REASON = "the loss differs at each evaluation at the same point: nothing can be measured, and lr stays as it is"
LATER_REASON = "measured from two evaluations by the probe, because they differ from that of the training step"


class Repeats(Enum):
    """What is known of evaluations of the loss at the same point, from the same state."""

    UNKNOWN = "unknown"
    ALWAYS = "always"
    LATER = "later"
    """Those of probes agree with each other, but not with that of the training step."""
    NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The loss and its gradient, as one evaluation gave them."""

    value: float
    gradient: Sequence[Tensor]


def check(loss: ProbedLoss, tolerance: float) -> Repeats:
    """Evaluate the first batch again, and a third time if that differs; warns unless all agree.

    Under DistributedDataParallel the ranks agree on the worst that one of them finds.
    """
    first, ranks = loss.batches[0], loss.batches[0].ranks
    second = loss.check_again(first)
    apart = differences(_evaluation(first), _evaluation(second), tolerance)
    if not on_any_rank(bool(apart), ranks):
        return Repeats.ALWAYS
    third = loss.check_again(first)
    repeats = not differences(_evaluation(second), _evaluation(third), tolerance)
    repeats = not on_any_rank(not repeats, ranks)
    if repeats and _compresses_gradients(loss.modules):
        return Repeats.LATER
    _warn(apart or ["something on another rank"], repeats=repeats)
    return Repeats.LATER if repeats else Repeats.NEVER


def differences(first: Evaluation, second: Evaluation, tolerance: float) -> list[str]:
    """What differs between two evaluations by more than ``tolerance``, relative in the norm, in words.

    What is not finite is not compared, nor is a value that a closure has not returned.

    Example:
        >>> one, two = Evaluation(value=1.0, gradient=[torch.ones(2)]), Evaluation(value=1.1, gradient=[torch.ones(2)])
        >>> differences(one, two, 1e-3)
        ['the value by 9.09 %']
    """
    gap, size = abs(first.value - second.value), max(abs(first.value), abs(second.value))
    length = max(joint_length(first.gradient), joint_length(second.gradient)) if first.gradient else 0.0
    gaps = Entrywise(torch.sub, blocks(first.gradient), blocks(second.gradient))
    apart = joint_norm(gaps, layout_of(first.gradient)) if length else 0.0
    compared = [("the value", gap, size), ("the gradient", apart, length)]
    return [f"{name} by {100 * gap / size:.3g} %" for name, gap, size in compared if gap > tolerance * size]


def rounding(params: Sequence[Tensor]) -> float:
    """Relative difference of two evaluations that rounding explains: the root of the machine epsilon.

    One evaluation repeated is bit for bit the same on a CPU. On accelerators sums in another order differ by a few
    epsilon times the root of the number of terms; the root of epsilon leaves room for 1e6 terms (eps 1e-7) whose sum is
    a thousand times smaller than they are. The epsilon is that of the coarsest dtype which takes part. On an
    accelerator that is float16 at least: the loss may use autocast inside, which cannot be seen from here. A loss that
    is not repeatable differs by far more: another batch or dropout mask by tens of percent.
    """
    dtypes = {p.dtype for p in params if p.dtype.is_floating_point}
    devices = {p.device.type for p in params}
    dtypes |= {torch.float16 for device in devices if device not in ("cpu", "meta")}
    dtypes |= {torch.get_autocast_dtype(d) for d in AUTOCAST_DEVICES if d in devices and torch.is_autocast_enabled(d)}
    return math.sqrt(max((torch.finfo(dtype).eps for dtype in dtypes), default=torch.finfo(torch.float32).eps))


def _warn(apart: list[str], *, repeats: bool) -> None:
    what_now = (
        "Later evaluations agree with each other, so each probe now evaluates the gradient at the present weights too, "
        "which costs one evaluation more."
        if repeats
        else "A third evaluation differed as well, so probes neither evaluate the loss nor measure anything from now "
        "on, and lr stays as it is."
    )
    warn(
        f"the loss is not the same when it is evaluated again with the same weights: {' and '.join(apart)}. {what_now} "
        "The usual causes are a batch drawn inside the loss, as with next(loader), and a random generator or other "
        "state that DCAO cannot see and put back. Draw the batch before minimize() or step(closure) and let the loss "
        "use it; keep state in attributes of modules or of your own objects; or give probe_batch= a loss that repeats."
    )


def _evaluation(batch: Batch) -> Evaluation:
    return Evaluation(value=math.nan if batch.loss is None else float(batch.loss), gradient=batch.gradient or [])


def _compresses_gradients(modules: Sequence[nn.Module]) -> bool:
    """Whether a communication hook changes the training step's gradients, which is no fault of the loss."""
    return any(isinstance(module, DistributedDataParallel) and module._comm_hooks for module in modules)
