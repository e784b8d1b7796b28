"""The training loop: one for every workload and every optimizer."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from dcao_lab.schedules import Schedule, constant
from dcao_lab.workloads.base import Batch, Problem, SplitName

WATCHED_SPLITS: tuple[SplitName, ...] = ("validation", "test")
ALL_SPLITS: tuple[SplitName, ...] = ("train", *WATCHED_SPLITS)
PATIENCE = 10  # losses that are nan or inf, in a row; a guarded optimizer may skip a few and recover


@dataclass(frozen=True, kw_only=True)
class EvaluationPoint:
    """Where a run stands at one evaluation.

    Attributes:
        step: Training steps done.
        gradient_evaluations: Forward-and-backward passes spent, probes included.
        lr: Learning rate that trains now.
        train_loss: Mean of the mini-batch losses since the last evaluation; None before the first step.
        metrics: What the workload's ``evaluate`` returns, ``test_accuracy`` for the accuracy on the test data; of the
            training data only at the end.
        seconds: Time spent on training steps so far, probes included and evaluations not.
    """

    step: int
    gradient_evaluations: float
    lr: float
    train_loss: float | None
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How long to train and when to look.

    Attributes:
        num_steps: Training steps, at most.
        eval_every: Steps from one evaluation to the next.
        budget: Gradient evaluations after which training ends; None: no such end.
        schedule: Factor of the initial learning rate over the course of the run.
    """

    num_steps: int
    eval_every: int
    budget: float | None = None
    schedule: Schedule = constant


def train(problem: Problem, optimizer: torch.optim.Optimizer, plan: TrainingPlan) -> Iterator[EvaluationPoint]:
    """Train as planned and yield a point before the first step, every ``eval_every``, and at the end.

    Ends early once the loss has been nan or inf for ten steps in a row.
    """
    progress = _Progress()
    initial_lrs = [group["lr"] for group in optimizer.param_groups]
    yield _evaluate(problem, optimizer, progress, splits=WATCHED_SPLITS)
    is_last = False
    while not is_last:
        _set_lrs(optimizer, initial_lrs, plan, progress)
        batch = next(problem.batches)
        started = time.perf_counter()
        loss = minimize(optimizer, partial(problem.loss, batch), batch).item()
        progress.note(loss, time.perf_counter() - started)
        is_last = progress.is_lost or _share_done(plan, optimizer, progress) >= 1.0
        if is_last or progress.step % plan.eval_every == 0:
            yield _evaluate(problem, optimizer, progress, splits=ALL_SPLITS if is_last else WATCHED_SPLITS)


def _share_done(plan: TrainingPlan, optimizer: torch.optim.Optimizer, progress: "_Progress") -> float:
    """How much of the run is done, by its steps or by its budget, whichever is spent first."""
    by_steps = progress.step / plan.num_steps
    return by_steps if plan.budget is None else max(by_steps, _evaluations(optimizer, progress) / plan.budget)


def _set_lrs(
    optimizer: torch.optim.Optimizer, initial_lrs: list[float], plan: TrainingPlan, progress: "_Progress"
) -> None:
    if plan.schedule is constant:
        return
    factor = plan.schedule(_share_done(plan, optimizer, progress) + 1.0 / plan.num_steps)  # the end of this step
    for group, lr in zip(optimizer.param_groups, initial_lrs, strict=True):
        group["lr"] = factor * lr


def minimize(optimizer: torch.optim.Optimizer, loss_fn: Callable[[], Tensor], batch: Batch | None = None) -> Tensor:
    """One training step; the loss before it. An optimizer that has ``minimize`` is given the loss itself.

    One that ``needs_batch`` is given the batch too.
    """
    if getattr(optimizer, "needs_batch", False):
        return optimizer.minimize(loss_fn, batch)
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


def _evaluations(optimizer: torch.optim.Optimizer, progress: _Progress) -> float:
    return progress.step + probe_cost(optimizer)


def _evaluate(
    problem: Problem, optimizer: torch.optim.Optimizer, progress: _Progress, splits: tuple[SplitName, ...]
) -> EvaluationPoint:
    return EvaluationPoint(
        step=progress.step,
        gradient_evaluations=_evaluations(optimizer, progress),
        lr=_training_lr(optimizer),
        train_loss=progress.take_mean_loss(),
        metrics=_metrics(problem, optimizer, splits),
        seconds=progress.seconds,
    )


def _training_lr(optimizer: torch.optim.Optimizer) -> float:
    effective = getattr(optimizer, "effective_lrs", None)
    return float(effective[0] if effective else optimizer.param_groups[0]["lr"])


def _metrics(problem: Problem, optimizer: torch.optim.Optimizer, splits: tuple[SplitName, ...]) -> dict[str, float]:
    problem.model.eval()
    try:
        with torch.no_grad(), evaluation_weights(optimizer):
            measured = {split: problem.evaluate(split) for split in splits}
    finally:
        problem.model.train()
    return {f"{split}_{name}": value for split, values in measured.items() for name, value in values.items()}


@contextmanager
def evaluation_weights(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """While inside, the model has the weights that the optimizer evaluates at: Schedule-Free's are averages."""
    if not hasattr(optimizer, "eval"):
        yield
        return
    optimizer.eval()
    try:
        yield
    finally:
        optimizer.train()
