"""The curvature at which an optimizer stops being stable, and how close a measured curvature comes to it.

The derivations, for every optimizer, are in ``docs/theory/stability-thresholds.md``.
"""

from __future__ import annotations

import math

import torch
from torch.optim import Optimizer

from dcao.updates.dynamics import StepDynamics
from dcao.updates.model import Group, OptimizerModel
from dcao.updates.registry import optimizer_model


def stability_threshold(optimizer: Optimizer, *, group: int = 0) -> float:
    """Largest curvature at which one param group is stable at its present hyperparameters.

    The curvature is the largest Hessian eigenvalue for SGD. For Adam, AdamW, NAdam, RMSprop and Adagrad it is
    that of P^-1/2 H P^-1/2, with P (first-moment correction included) from ``OptimizerModel.preconditioner``.
    Exact for a quadratic loss while P and the hyperparameters do not change. Just below the threshold every
    direction contracts. Just above it the sharpest one oscillates with growing amplitude; Adam's P then grows
    too, so that Adam settles into a cycle instead of blowing up.

    SGD's weight decay adds to the curvature and is subtracted here. Coupled decay under a preconditioner has no
    equivalent on this scale: compare the threshold with the curvature of
    P^-1/2 (H + weight_decay * I) P^-1/2. The threshold is infinite at lr 0, and not positive if weight decay
    alone makes the weights grow.

    Args:
        optimizer: A supported torch optimizer, or one that wraps it in its attribute ``base``.
        group: Index of the param group.

    Raises:
        TypeError: The optimizer has no such threshold, or its class is not known.
        ValueError: The group does not exist, has ``maximize=True``, or has a momentum outside [0, 1).

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> stability_threshold(torch.optim.SGD([weight], lr=0.1))
        20.0
        >>> heavy_ball = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> round(stability_threshold(heavy_ball), 6)  # 2 * (1 + 0.9) / 0.1
        38.0
        >>> adam = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
        >>> round(stability_threshold(adam))  # 2 * (1 + 0.9) / (1 - 0.9) / 0.1
        380
    """
    model = optimizer_model(optimizer)
    num_groups = len(optimizer.param_groups)
    if not 0 <= group < num_groups:
        raise ValueError(f"group must be in [0, {num_groups}), got {group}: the optimizer has {num_groups}")
    settings = optimizer.param_groups[group]
    if (training := getattr(optimizer, "effective_lrs", None)) is not None:
        settings = {**settings, "lr": training[group]}  # under a scheduler DCAO's groups hold the nominal lr
    # The state matters only through the step number, which differs between parameters if one got no gradient.
    dynamics = [model.dynamics(settings, optimizer.state.get(p, {})) for p in settings["params"]]
    threshold = min(each.curvature_limit for each in dynamics)
    return threshold - dynamics[0].l2_decay if _is_unpreconditioned(model, settings) else threshold


def _is_unpreconditioned(model: OptimizerModel, group: Group) -> bool:
    return model.denominator(group, {}, torch.zeros(())) is None


def stability_number(curvature: float, threshold: float) -> float:
    """``2 * curvature / threshold``: the edge of stability is at 2 for every optimizer.

    Infinite where no curvature is stable (a threshold that is not positive).

    Example:
        >>> stability_number(15.0, threshold=20.0)
        1.5
    """
    return 2.0 * curvature / threshold if threshold > 0.0 else math.inf


def load_number(signal: float, noise: float, dynamics: StepDynamics) -> float:
    """Stability number s under mini-batch noise: below 2 the mean square of the weights contracts.

    For batch curvatures lambda_B along one direction, independent from step to step, the two parts are

        signal = step_size * mean(lambda_B),    noise = step_size * var(lambda_B) / mean(lambda_B).

    Heavy ball, Adam and RMSprop: ``noise + signal_weight * signal``. For Nesterov and NAdam the two parts do
    not add up: s is 2 over the factor by which signal and noise (both proportional to lr) can grow together
    until the mean square does. Both forms are exact in one dimension, with P and the hyperparameters fixed and
    without decoupled decay, whose effect is of relative size ``lr * weight_decay / (1 - momentum)``. If an
    estimate of a part is negative, the two are added up in all cases.

    Example:
        >>> load_number(1.0, 0.5, StepDynamics(step_size=0.1))
        1.5
        >>> adam = StepDynamics(step_size=0.1, momentum=0.9)
        >>> round(load_number(1.0, 0.5, adam), 6)  # 0.5 + 0.1 / 1.9 * 1.0
        0.552632
    """
    weighted = dynamics.signal_weight * signal
    if not (dynamics.nesterov and signal > 0.0 and noise > 0.0):
        return noise + weighted
    # noise * (1 + p * q * signal) = (1 + p * signal) * (2 - q * signal) at the edge, p = lookahead and
    # q = signal_weight; with signal and noise multiplied by c = 2 / s this is a quadratic in s.
    ahead = dynamics.lookahead * signal
    half = (noise + weighted) / 2.0 - ahead
    return half + math.sqrt(half * half + 2.0 * dynamics.lookahead * weighted * (signal + noise))
