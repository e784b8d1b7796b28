"""An average of the weights, to test with after a run whose length is not known and whose lr does not decay."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["polynomial_average"]

Tensors = tuple[Tensor, ...] | list[Tensor]
MultiAverage = Callable[[Tensors, Tensors, Tensor | int], None]


def polynomial_average(gamma: float = 8.0) -> MultiAverage:
    """Averaging for :class:`torch.optim.swa_utils.AveragedModel` whose window grows with the run.

    The average after step t is ``(1 - c) * average + c * weights`` with ``c = (gamma + 1) / (t + gamma)``, so weights
    of step i count in proportion to ``i ** gamma``, and the window is always about the last ``1 / (gamma + 1)`` of the
    run, whatever its length. (Shamir and Zhang 2013, section 4: polynomial-decay averaging.)

    If the length is known, ``DCAO(..., total_steps=)`` does as much without a second copy of the weights.

    Args:
        gamma: 0 is the plain mean of all steps, and a larger gamma makes the window shorter. Default 8, which was
            measured (docs/decisions/0004).

    Returns:
        A function for ``multi_avg_fn``. Give ``use_buffers=True`` as well if the model has BatchNorm.

    Raises:
        ValueError: ``gamma`` is negative or not finite.

    Example:
        >>> from torch.optim.swa_utils import AveragedModel
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> average = AveragedModel(model, multi_avg_fn=polynomial_average(gamma=1.0), use_buffers=True)
        >>> for weight in (3.0, 6.0, 9.0):
        ...     _ = torch.nn.init.constant_(model.weight, weight)
        ...     average.update_parameters(model)
        >>> round(average.module.weight.item(), 6)  # (1 * 3 + 2 * 6 + 3 * 9) / 6
        7.0
    """
    if not 0.0 <= gamma < float("inf"):
        raise ValueError(f"gamma must be at least 0 and finite, got {gamma}; 0 is the mean of all steps")

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, num_averaged: Tensor | int) -> None:
        if not (averaged[0].is_floating_point() or averaged[0].is_complex()):
            torch._foreach_copy_(averaged, current)  # counters, such as BatchNorm's number of batches
            return
        step = float(num_averaged) + 1.0
        torch._foreach_lerp_(averaged, current, (gamma + 1.0) / (step + gamma))

    return update
