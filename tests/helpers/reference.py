"""Slow, obvious twins of what the library does, by other means."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, optim
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from helpers.cases import Problem


def dense_hessian(problem: Problem) -> Tensor:
    """Hessian of the full-batch loss in the parameters that require grad, ``(size, size)``.

    ``torch.autograd.functional.hessian`` of a pure function of one flat vector: no kept graph, no ``.grad``.
    """
    names = [name for name, p in problem.model.named_parameters() if p.requires_grad]
    params = [problem.model.get_parameter(name).detach() for name in names]
    sizes = [p.numel() for p in params]

    def loss(flat: Tensor) -> Tensor:
        pieces = [piece.view(p.shape) for piece, p in zip(flat.split(sizes), params, strict=True)]
        outputs = functional_call(problem.model, dict(zip(names, pieces, strict=True)), (problem.inputs,))
        return problem.criterion(outputs, problem.targets)

    with sdpa_kernel(SDPBackend.MATH):
        return torch.autograd.functional.hessian(loss, torch.cat([p.reshape(-1) for p in params]))


def dense_matrix(operator) -> Tensor:
    """The operator as a matrix, column by column."""
    eye = torch.eye(operator.size, dtype=operator.dtype, device=operator.device)
    return torch.stack([operator.matvec(column) for column in eye], dim=1)


def textbook_lanczos(matrix: Tensor, start: Tensor, num_steps: int) -> Tensor:
    """Tridiagonal matrix by the three-term recurrence, every vector orthogonalised against all others."""
    basis = [start / start.norm()]
    T = torch.zeros(num_steps, num_steps, dtype=matrix.dtype)
    for j in range(num_steps):
        w = matrix @ basis[-1]
        T[j, j] = basis[-1] @ w
        for _ in range(2):
            for q in basis:
                w = w - (q @ w) * q
        if j + 1 < num_steps:
            T[j, j + 1] = T[j + 1, j] = w.norm()
            basis.append(w / w.norm())
    return T


# --- the optimizer's step, and the measures along it


@dataclass(frozen=True, kw_only=True)
class HandStep:
    """What torch's documented update rule makes of a gradient, flat, in the order of the parameters given.

    Attributes:
        gradient: With coupled weight decay.
        displacement: ``eta_eff P^-1`` times it: where it leads to in the long run.
        preconditioner: P of the coming step, corrected for the bias of the first moment.
        decay: Coupled weight decay of each entry.
        lr: Learning rate of each entry.
        step_size: ``eta_eff`` of each entry.
    """

    gradient: Tensor
    displacement: Tensor
    preconditioner: Tensor
    decay: Tensor
    lr: Tensor
    step_size: Tensor


def hand_step(optimizer: optim.Optimizer, params: Sequence[Tensor], gradient: Tensor) -> HandStep:
    """P is read off a copy of the optimizer after it has really taken the step."""
    gradients = [g.view(p.shape) for g, p in zip(gradient.split([p.numel() for p in params]), params, strict=True)]
    stepped = _after_a_real_step(optimizer, params, gradients)
    groups = [next(g for g in optimizer.param_groups if any(q is p for q in g["params"])) for p in params]
    rows = [
        _hand_row(optimizer, group, p.detach(), g, state)
        for group, p, g, state in zip(groups, params, gradients, stepped, strict=True)
    ]
    columns = [torch.cat([column.reshape(-1) for column in columns]) for columns in zip(*rows, strict=True)]
    names = ("gradient", "displacement", "preconditioner", "decay", "lr", "step_size")
    return HandStep(**dict(zip(names, columns, strict=True)))


def _after_a_real_step(optimizer, params, gradients) -> list[dict]:
    twin = copy.deepcopy(optimizer)
    originals = [p for group in optimizer.param_groups for p in group["params"]]
    copies = [p for group in twin.param_groups for p in group["params"]]
    twin_of = {id(p): q for p, q in zip(originals, copies, strict=True)}
    for p, g in zip(params, gradients, strict=True):
        twin_of[id(p)].grad = g.clone()
    twin.step()
    return [twin.state[twin_of[id(p)]] for p in params]


def _hand_row(optimizer, group, p: Tensor, g: Tensor, after: dict) -> tuple[Tensor, ...]:
    lr, decay = group["lr"], group["weight_decay"]
    if group.get("decoupled_weight_decay", False):
        decay = 0.0
    seen = g + decay * p
    if isinstance(optimizer, optim.SGD):
        denominator, correction = torch.ones_like(p), 1.0
        step_size = lr * (1.0 - group["dampening"]) / (1.0 - group["momentum"])
    elif isinstance(optimizer, optim.RMSprop):
        denominator, correction = after["square_avg"].sqrt() + group["eps"], 1.0
        step_size = lr / (1.0 - group["momentum"])
    else:
        (beta1, beta2), t = group["betas"], int(after["step"])
        denominator = (after["exp_avg_sq"] / (1.0 - beta2**t)).sqrt() + group["eps"]
        step_size, correction = lr, 1.0 - beta1**t
    constants = [torch.full_like(p, value) for value in (decay, lr, step_size)]
    return (seen, step_size * seen / denominator, correction * denominator, *constants)


def directional_parts(
    steps: Sequence[HandStep], hessians: Sequence[Tensor], weights: Sequence[float] | None = None
) -> tuple[float, float]:
    """``batch`` stability number and its signal by their definition (design 4), every pair A != B written out.

    With weights, B counts by its weight and A by its weight among the others.
    """
    weights = [1.0] * len(steps) if weights is None else weights
    slope = curvature = signal = 0.0
    for b, (step, H, w) in enumerate(zip(steps, hessians, weights, strict=True)):
        product = (H + torch.diag(step.decay)) @ step.displacement
        slope += w * float(step.gradient @ step.displacement)
        curvature += w * float(step.displacement @ product)
        for a, other in enumerate(steps):
            if a != b:
                share = weights[a] / (sum(weights) - w)
                signal += w * share * float(other.displacement @ product)
    return curvature / slope, signal / slope


def load_by_hand(signal: float, noise: float, momentum: float, *, nesterov: bool = False) -> float:
    """Stability number with its edge at 2, from the mean-square conditions of theory.md 1b."""
    if not nesterov or signal <= 0.0 or noise <= 0.0:  # parts that come out negative are added up
        lookahead = momentum if nesterov else 0.0
        return noise + (1.0 - momentum) * (1.0 + 2.0 * lookahead) / (1.0 + momentum) * signal
    low, high = 0.0, 1e6  # the factor on lr that brings signal and noise to the edge
    for _ in range(200):
        middle = math.sqrt(low * high) if low > 0.0 else high / 2.0
        low, high = (middle, high) if _nesterov_is_stable(middle * signal, middle * noise, momentum) else (low, middle)
    return 2.0 / high


def _nesterov_is_stable(signal: float, noise: float, mu: float) -> bool:
    # theory.md writes h = lr * curvature; signal and noise here carry eta_eff = lr / (1 - mu)
    h, variance = signal * (1.0 - mu), signal * noise * (1.0 - mu) ** 2
    return variance < h * (1 - mu + mu * h) * (2 * (1 + mu) - h * (1 + 2 * mu)) / (1 + mu + mu * h * (1 + 2 * mu))


# --- the proposal's algorithm (3.2), on SGD as torch documents it


@dataclass(frozen=True, kw_only=True)
class LiteralSettings:
    """Names of the proposal: T, k, C_target, gamma_down, gamma_up, alpha_beta, alpha_wd."""

    T: int
    k: int
    target: float = 1.5
    gamma_down: float = 0.8
    gamma_up: float = 1.1
    alpha_beta: float = 0.05
    alpha_wd: float = 0.05


def literal_by_hand(
    problem: Problem,
    settings: LiteralSettings,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    num_steps: int,
    starts: Sequence[Tensor],
) -> list[tuple[float, float, float]]:
    """``(lr, momentum, weight decay)`` after each probe. ``starts``: of each Lanczos run."""
    buffers: list[Tensor] | None = None
    history = []
    for step in range(num_steps):
        if step % settings.T == 0:
            T_k = textbook_lanczos(dense_hessian(problem), starts[len(history)], settings.k)
            stability = lr * float(torch.linalg.eigvalsh(T_k)[-1])
            error = stability - settings.target
            factor = min(max(settings.target / stability, settings.gamma_down), settings.gamma_up)
            momentum = min(max(momentum * (1.0 - settings.alpha_beta * error), 0.0), 0.999)
            weight_decay = min(max(weight_decay * (1.0 + settings.alpha_wd * error), 0.0), 1.0)
            lr *= factor
            history.append((lr, momentum, weight_decay))
        gradients = torch.autograd.grad(problem.loss(), problem.params)
        seen = [g + weight_decay * p.detach() for g, p in zip(gradients, problem.params, strict=True)]
        buffers = seen if buffers is None else [momentum * b + g for b, g in zip(buffers, seen, strict=True)]
        with torch.no_grad():
            for p, buffer in zip(problem.params, buffers, strict=True):
                p -= lr * buffer
    return history
