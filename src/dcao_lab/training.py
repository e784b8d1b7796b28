"""The training loop: one for every workload and every optimizer."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from dcao_lab.workloads.base import Problem

PATIENCE = 10  # losses that are nan or inf, in a row; a guarded optimizer may skip a few and recover


@dataclass(frozen=True, kw_only=True)
class EvaluationPoint:
    """Where a run stands at one evaluation.

    Attributes:
        step: Training steps done.
        gradient_evaluations: Forward-and-backward passes spent, probes included.
        lr: Learning rate that trains now.
        train_loss: Mean of the mini-batch losses since the last evaluation; None before the first step.
        metrics: What the workload's ``evaluate`` returns.
        seconds: Time spent on training steps so far, probes included and evaluations not.
    """

    step: int
    gradient_evaluations: float
    lr: float
    train_loss: float | None
    metrics: dict[str, float]
    seconds: float


def train(
    problem: Problem, optimizer: torch.optim.Optimizer, num_steps: int, eval_every: int
) -> Iterator[EvaluationPoint]:
    """Train for ``num_steps`` and yield a point before the first step, every ``eval_every``, and at the end.

    Ends early once the loss has been nan or inf for ten steps in a row.
    """
    progress = _Progress()
    yield _evaluate(problem, optimizer, progress)
    for step in range(1, num_steps + 1):
        batch = next(problem.batches)
        started = time.perf_counter()
        loss = minimize(optimizer, partial(problem.loss, batch)).item()
        progress.note(loss, time.perf_counter() - started)
        if step % eval_every == 0 or step == num_steps or progress.is_lost:
            yield _evaluate(problem, optimizer, progress)
        if progress.is_lost:
            return


def minimize(optimizer: torch.optim.Optimizer, loss_fn: Callable[[], Tensor]) -> Tensor:
    """One training step; the loss before it. An optimizer that has ``minimize`` is given the loss itself."""
    if hasattr(optimizer, "minimize"):
        return optimizer.minimize(loss_fn)
    optimizer.zero_grad()
    loss = loss_fn()
    loss.backward()
    optimizer.step()
    return loss.detach()


def probe_cost(optimizer: torch.optim.Optimizer) -> float:
    """Gradient evaluations that ``optimizer`` has spent on probes; 0 for one that does not probe."""
    return float(getattr(optimizer, "probe_cost", 0.0))


@dataclass
class _Progress:
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    lost_in_a_row: int = 0

    def note(self, loss: float, seconds: float) -> None:
        self.step += 1
        self.seconds += seconds
        self.losses.append(loss)
        self.lost_in_a_row = 0 if math.isfinite(loss) else self.lost_in_a_row + 1

    @property
    def is_lost(self) -> bool:
        return self.lost_in_a_row >= PATIENCE

    def take_mean_loss(self) -> float | None:
        losses, self.losses = self.losses, []
        return math.fsum(losses) / len(losses) if losses else None


def _evaluate(problem: Problem, optimizer: torch.optim.Optimizer, progress: _Progress) -> EvaluationPoint:
    return EvaluationPoint(
        step=progress.step,
        gradient_evaluations=progress.step + probe_cost(optimizer),
        lr=_training_lr(optimizer),
        train_loss=progress.take_mean_loss(),
        metrics=_in_eval_mode(problem.model, problem.evaluate),
        seconds=progress.seconds,
    )


def _training_lr(optimizer: torch.optim.Optimizer) -> float:
    effective = getattr(optimizer, "effective_lrs", None)
    return float(effective[0] if effective else optimizer.param_groups[0]["lr"])


def _in_eval_mode(model: nn.Module, evaluate: Callable[[], dict[str, float]]) -> dict[str, float]:
    model.eval()
    try:
        with torch.no_grad():
            return evaluate()
    finally:
        model.train()
