"""Runs of the real DCAO around SGD in float64, with everything that a theorem speaks of: lr, losses, gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dcao import DCAO
from dcao.policies import Policy
from dcao.probing.estimate import Measure
from dcao.probing.settings import ProbeSettings


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a run did, an entry a step; ``losses`` and ``points`` have one more, for the end.

    Attributes:
        lrs: The lr that trained.
        losses: The loss without noise.
        gradients: Its gradient, and not that which trained.
        points: The weights.
        curvatures: ``g'Hg / g'g`` as the probe before the step has measured it; nan at a step without a probe.
    """

    lrs: Tensor
    losses: Tensor
    gradients: Tensor
    points: Tensor
    curvatures: Tensor

    @property
    def squares(self) -> Tensor:
        """Squared lengths of the gradients."""
        return self.gradients.square().sum(dim=1)


def course(
    loss: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    steps: int,
    policy: Policy | None = None,
    measure: Measure | ProbeSettings = "load",
    every: int | None = None,
    lr: float = 1e-3,
    momentum: float = 0.0,
    total_steps: int | None = None,
    noise: Callable[[], Tensor] | None = None,
) -> Course:
    """Train ``loss`` from ``start``; the training gradient is its own plus ``noise()``, drawn at every step.

    With noise, probes look at the loss without it, so that lr depends on the weights alone. The guard is off: what it
    takes back is no step of a theorem.
    """
    weights = start.to(torch.float64).clone().requires_grad_()
    optimizer = DCAO(
        torch.optim.SGD([weights], lr=lr, momentum=momentum),
        policy=policy,
        measure=measure,
        every=every,
        total_steps=total_steps,
        guard=False,
        probe_batch=None if noise is None else lambda: loss(weights),
    )
    lrs, curvatures, losses, gradients, points = [], [], [], [], []
    for step in range(steps + 1):
        value = loss(weights)
        losses.append(value.item())
        points.append(weights.detach().clone())
        if step == steps:
            break
        gradients.append(torch.autograd.grad(value, weights)[0])
        pull = torch.zeros_like(weights) if noise is None else noise()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "for 100 steps the policy's max_lr has held lr")  # as the theorem has it
            optimizer.minimize(lambda pull=pull: loss(weights) + (pull * weights).sum())
        lrs.append(optimizer.param_groups[0]["lr"])
        seen = optimizer.last_estimate
        is_fresh = seen is not None and seen.step == step and seen.batch is not None
        curvatures.append(seen.batch if is_fresh and seen is not None else float("nan"))
    return Course(
        lrs=torch.tensor(lrs, dtype=torch.float64),
        losses=torch.tensor(losses, dtype=torch.float64),
        gradients=torch.stack(gradients),
        points=torch.stack(points),
        curvatures=torch.tensor(curvatures, dtype=torch.float64),
    )
