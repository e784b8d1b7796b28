"""A real torch optimizer whose preconditioner and step counters stand still: the setting of the theory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dcao.updates.registry import optimizer_model
from helpers.optimizer_cases import OptimizerCase

AVERAGES = ("exp_avg", "momentum_buffer")  # the state that is allowed to move

# Gradients of 1e-12 times a curvature below 1e6 leave second moments of order 1 alone within a step.
TINY = 1e-12


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class FrozenOptimizer:
    """Warmed up for a few real steps with random gradients, then frozen there with its averages at zero."""

    def __init__(self, case: OptimizerCase, size: int, *, lr: float | None = None, num_warmup: int = 4) -> None:
        self.parameter = torch.nn.Parameter(torch.zeros(size, dtype=torch.float64))
        self.optimizer = case.make([self.parameter], case.lr if lr is None else lr)
        self.model = optimizer_model(self.optimizer)
        self.group = self.optimizer.param_groups[0]
        generator = seeded(size)
        for step in range(num_warmup):
            gradient = (1.0 + torch.rand(size, generator=generator, dtype=torch.float64)) / (1 + step)
            self._step(gradient)
        self.frozen = {key: copy.deepcopy(value) for key, value in self.state.items() if key not in AVERAGES}
        self.reset()

    @property
    def state(self) -> dict[str, Any]:
        return self.optimizer.state[self.parameter]

    @property
    def dynamics(self):
        return self.model.dynamics(self.group, self.state)

    @property
    def average(self) -> Tensor | None:
        """The gradient average; None for an optimizer without one."""
        return next((self.state[key] for key in AVERAGES if key in self.state), None)

    @property
    def preconditioner(self) -> Tensor:
        """P of every step that is taken with negligible gradients."""
        zero = torch.zeros_like(self.parameter)
        preconditioner = self.model.preconditioner(self.group, self.state, zero)
        return torch.ones_like(zero) if preconditioner is None else preconditioner

    def reset(self, weights: Tensor | float = 0.0, average: float = 0.0) -> None:
        with torch.no_grad():
            self.parameter.copy_(torch.as_tensor(weights))
            if self.average is not None:
                self.average.fill_(average)

    def step(self, gradient: Tensor) -> Tensor:
        """Weights after one real step; afterwards all state but the averages is what it was."""
        self._step(gradient)
        self.restore()
        return self.parameter.detach().clone()

    def restore(self) -> None:
        """Put back what stands still, after a step that somebody else has taken."""
        for key, value in self.frozen.items():
            self.state[key] = copy.deepcopy(value)  # a tensor or a number

    def growth(self, hessian: Tensor, num_steps: int = 2000) -> float:
        """Growth of the weights over the second half of a run on a quadratic; inf once it is beyond doubt."""
        self.reset(TINY)
        norms = []
        for _ in range(num_steps):
            norms.append(self.step(hessian @ self.parameter.detach()).norm().item())
            if norms[-1] > 1e4 * norms[0]:
                return torch.inf
        return norms[-1] / norms[num_steps // 2]

    def _step(self, gradient: Tensor) -> None:
        self.parameter.grad = gradient
        self.optimizer.step()


def mean_square_growth(frozen: FrozenOptimizer, curvatures: Sequence[float]) -> float:
    """Growth a step of the second moments when every step draws one of these curvatures: exact, from real steps."""
    steps = [_step_matrix(frozen, curvature) for curvature in curvatures]
    second_moments = sum(torch.kron(step, step) for step in steps) / len(steps)
    return torch.linalg.eigvals(second_moments).abs().max().item()


def _step_matrix(frozen: FrozenOptimizer, curvature: float) -> Tensor:
    """One real step at that curvature of the loss, as a matrix on (weight, average)."""
    columns = []
    for start in ((TINY, 0.0), (0.0, TINY)):
        frozen.reset(*start)
        after = frozen.step(curvature * frozen.parameter.detach()).item()
        average = 0.0 if frozen.average is None else frozen.average.item()
        columns.append([after / TINY, average / TINY])
    return torch.tensor(columns, dtype=torch.float64).T


def step_from_zero_averages(case: OptimizerCase) -> tuple[list[float], list[float]]:
    """The weights after one real step from zero averages, and what the record of the optimizer says they are."""
    gradient = torch.tensor([0.3, -2.0, 1e-3], dtype=torch.float64)
    before = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    frozen = FrozenOptimizer(case, gradient.numel())
    frozen.reset(before)
    dynamics = frozen.dynamics
    seen = gradient + dynamics.l2_decay * before
    preconditioner = frozen.model.preconditioner(frozen.group, frozen.state, seen)
    direction = seen if preconditioner is None else seen / preconditioner
    # of the long-run displacement, the share of the newest gradient is (1 - b) * (1 + lookahead)
    share = (1.0 - dynamics.momentum) * (1.0 + dynamics.lookahead)
    expected = (1.0 - dynamics.decoupled_decay) * before - dynamics.step_size * share * direction
    return frozen.step(gradient).tolist(), expected.tolist()


def displacement_in_the_long_run(case: OptimizerCase) -> tuple[float, float]:
    """How far a constant gradient moves the weight in a step at last, and what the record of the optimizer says."""
    frozen = FrozenOptimizer(case, 1)
    gradient = torch.full((1,), TINY, dtype=torch.float64)
    for _ in range(300):  # 0.9^300 = 2e-14 of the average is left to fill
        with torch.no_grad():
            frozen.parameter.zero_()
        displacement = -frozen.step(gradient)
    return displacement.item(), frozen.dynamics.step_size * (gradient / frozen.preconditioner).item()
