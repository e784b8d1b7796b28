"""The training loop: one for every workload and every optimizer."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dcao_lab.norms import NO_NORMS, StepNorms, flat_copy, step_norms, trainable
from dcao_lab.schedules import Schedule, constant
from dcao_lab.training_log import TrainingLog
from dcao_lab.workloads.base import Batch, Problem, SplitName

WATCHED_SPLITS: tuple[SplitName, ...] = ("validation", "test")
ALL_SPLITS: tuple[SplitName, ...] = ("train", *WATCHED_SPLITS)
PATIENCE = 10  # losses that are nan or inf, in a row; a guarded optimizer may skip a few and recover


@dataclass(frozen=True, kw_only=True)
class EvaluationPoint:
    """Where a run stands at one evaluation.

    Attributes:
        step: Training steps done.
        epoch: Passes over the training data done, and parts of one.
        gradient_evaluations: Forward-and-backward passes spent, probes included.
        lr: Learning rate that trains now.
        train_loss: Mean of the mini-batch losses since the last evaluation; None before the first step.
        metrics: What the workload's ``evaluate`` returns, ``test_accuracy`` for the accuracy on the test data; of the
            training data only at the end.
        seconds: Time spent on training so far, batches and probes included and evaluations not.
        gradient_norm: Euclidean norm of the gradient of the training step that ended here, over all trainable
            parameters; None before the first step, and where the optimizer leaves no gradients.
        parameter_norm: The same of the parameters after that step.
        update_norm: The same of what that step changed; None also where a probe ended the budget in a step of which
            that was not foreseen.
    """

    step: int
    epoch: float
    gradient_evaluations: float
    lr: float
    train_loss: float | None
    metrics: dict[str, float]
    seconds: float
    gradient_norm: float | None = None
    parameter_norm: float | None = None
    update_norm: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How long to train and when to look.

    Attributes:
        num_steps: Training steps, at most.
        eval_every: Steps from one evaluation to the next.
        budget: Gradient evaluations after which training ends, so that at most the last step exceeds it;
            None: no such end.
        schedule: Factor of the initial learning rate over the course of the run.
    """

    num_steps: int
    eval_every: int
    budget: float | None = None
    schedule: Schedule = constant

    def share_done(self, num_steps: float, gradient_evaluations: float) -> float:
        """How much of the run is done, by its steps or by its budget, whichever is spent first.

        Example:
            >>> TrainingPlan(num_steps=100, eval_every=10, budget=50.0).share_done(20, 24.0)
            0.48
        """
        by_steps = num_steps / self.num_steps
        return by_steps if self.budget is None else max(by_steps, gradient_evaluations / self.budget)


def train(
    problem: Problem, optimizer: torch.optim.Optimizer, plan: TrainingPlan, log: TrainingLog | None = None
) -> Iterator[EvaluationPoint]:
    """Train as planned and yield a point before the first step, every ``eval_every``, and at the end.

    Ends early once the loss has been nan or inf for ten steps in a row. ``log`` takes every step.
    """
    log = TrainingLog() if log is None else log
    progress = _Progress(plan, log, optimizer)
    set_lrs, params = _lr_setter(optimizer, plan, progress), trainable(problem.model)
    step = minimizer(optimizer, problem.loss)
    yield _evaluate(problem, optimizer, progress, NO_NORMS, splits=WATCHED_SPLITS)
    started = time.perf_counter()
    while not progress.is_done:
        set_lrs()
        before = flat_copy(params) if progress.expects_evaluation else None
        progress.note(step(next(problem.batches)).item())
        if progress.is_at_evaluation:
            log.seconds += time.perf_counter() - started
            norms, splits = step_norms(params, before), ALL_SPLITS if progress.is_done else WATCHED_SPLITS
            yield _evaluate(problem, optimizer, progress, norms, splits)
            started = time.perf_counter()


def minimize(optimizer: torch.optim.Optimizer, loss_fn: Callable[[], Tensor], batch: Batch | None = None) -> Tensor:
    """One training step of any optimizer; the loss before it."""
    return minimizer(optimizer, lambda batch: loss_fn())(batch).detach()


def minimizer(optimizer: torch.optim.Optimizer, loss: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
    """How this optimizer takes one training step, found out once: ``step(batch)`` returns ``loss(batch)`` before it.

    An optimizer that has ``minimize`` is given the loss itself, and the batch as well if it says ``needs_batch``.
    """

    def backward_and_step(batch: Any) -> Tensor:
        optimizer.zero_grad()
        value = loss(batch)
        value.backward()
        optimizer.step()
        return value

    own = getattr(optimizer, "minimize", None)
    if own is None:
        return backward_and_step
    if getattr(optimizer, "needs_batch", False):
        return lambda batch: own(partial(loss, batch), batch)
    return lambda batch: own(partial(loss, batch))


def probe_cost(optimizer: torch.optim.Optimizer) -> float:
    """Gradient evaluations that ``optimizer`` has spent on probes; 0 for one that does not probe."""
    return float(getattr(optimizer, "probe_cost", 0.0))


def training_lr(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate that trains the first param group; under a schedule DCAO may hold it below what is there."""
    effective = getattr(optimizer, "effective_lrs", None)
    return float(effective[0] if effective else optimizer.param_groups[0]["lr"])


@contextlib.contextmanager
def evaluation_mode(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The model in eval mode, and the optimizer if it has modes (averaging ones do); in train mode afterwards."""
    has_modes = hasattr(optimizer, "eval") and hasattr(optimizer, "train")
    switched = [model, optimizer] if has_modes else [model]
    for each in switched:
        each.eval()
    try:
        yield
    finally:
        for each in switched:
            each.train()


class _Progress:
    """How far a run is: what its plan, its log and its probes come to.

    Attributes:
        gradient_evaluations: Spent so far, probes included.
        is_done: Whether the run is over: its plan is done, or its loss lost.
        is_at_evaluation: Whether the step that was noted last ends in an evaluation.
        expects_evaluation: Whether the coming step may end in one: for certain, or if it costs what the dearest cost.

    ``note`` comes after every step, and a step may take a millisecond, in which it has left the processor's caches:
    between evaluations it does as little as it can (``benchmarks/lab_overhead.py``).
    """

    def __init__(self, plan: TrainingPlan, log: TrainingLog, optimizer: torch.optim.Optimizer) -> None:
        self.plan, self.log, self.optimizer = plan, log, optimizer
        self.gradient_evaluations = probe_cost(optimizer)
        self.is_done = self.is_at_evaluation = False
        self._num_steps = 0
        self._budget = math.inf if plan.budget is None else plan.budget
        self._probes = hasattr(optimizer, "probe_cost")
        self._dearest_step = 1.0
        self._lost_in_a_row = 0
        self._num_evaluated = 0  # steps before the last evaluation
        self.expects_evaluation, self._decides_from = self._ahead()

    def note(self, loss: float) -> None:
        self._num_steps = num_steps = self._num_steps + 1
        spent, lr = float(num_steps), self.optimizer.param_groups[0]["lr"]
        if self._probes:
            spent, lr = spent + probe_cost(self.optimizer), training_lr(self.optimizer)
            self._dearest_step = max(self._dearest_step, spent - self.gradient_evaluations)
        self.gradient_evaluations = spent
        self.log.note(loss, lr, spent)
        if self._probes or num_steps >= self._decides_from or not math.isfinite(loss):
            self._decide(loss)

    def _decide(self, loss: float) -> None:
        num_steps, plan = self._num_steps, self.plan
        self._lost_in_a_row = 0 if math.isfinite(loss) else self._lost_in_a_row + 1
        spent_all = num_steps >= plan.num_steps or self.gradient_evaluations >= self._budget
        self.is_done = spent_all or self._lost_in_a_row >= PATIENCE
        self.is_at_evaluation = self.is_done or num_steps % plan.eval_every == 0
        self.expects_evaluation, self._decides_from = self._ahead()

    def _ahead(self) -> tuple[bool, float]:
        """Whether the coming step may end in an evaluation, and the first step after which there is to decide again."""
        coming, every = self._num_steps + 1, self.plan.eval_every
        last = min(self.plan.num_steps, coming + self._budget - self.gradient_evaluations - self._dearest_step)
        next_evaluation = min(last, -(-coming // every) * every)
        may_be_next = coming >= next_evaluation or self._lost_in_a_row == PATIENCE - 1
        return may_be_next, coming if self._lost_in_a_row or self.is_at_evaluation else next_evaluation - 1

    @property
    def share_after_next(self) -> float:
        """Share of the run that is done once the coming step is, probes in it left out."""
        return self.plan.share_done(self.log.num_steps + 1, self.gradient_evaluations + 1.0)

    def take_mean_loss(self) -> float | None:
        losses = self.log.loss[self._num_evaluated :]
        self._num_evaluated = self.log.num_steps
        return math.fsum(losses) / len(losses) if losses else None


def _lr_setter(optimizer: torch.optim.Optimizer, plan: TrainingPlan, progress: _Progress) -> Callable[[], None]:
    """Sets the learning rates of the coming step, the schedule taken at its end: a run ends at the schedule's end."""
    if plan.schedule is constant:
        return lambda: None
    for group in optimizer.param_groups:
        # As torch's schedulers do it: DCAO sees by it that the lr is somebody else's, before the first step.
        group.setdefault("initial_lr", group["lr"])
    initial_lrs = [group["lr"] for group in optimizer.param_groups]

    def set_lrs() -> None:
        factor = plan.schedule(min(1.0, progress.share_after_next))
        for group, lr in zip(optimizer.param_groups, initial_lrs, strict=True):
            group["lr"] = factor * lr

    return set_lrs


def _evaluate(
    problem: Problem,
    optimizer: torch.optim.Optimizer,
    progress: _Progress,
    norms: StepNorms,
    splits: tuple[SplitName, ...],
) -> EvaluationPoint:
    started = time.perf_counter()
    metrics = _metrics(problem, optimizer, splits)
    progress.log.evaluation_seconds += time.perf_counter() - started
    return EvaluationPoint(
        step=progress.log.num_steps,
        epoch=progress.log.num_steps / problem.batches_per_epoch,
        gradient_evaluations=progress.gradient_evaluations,
        lr=training_lr(optimizer),
        train_loss=progress.take_mean_loss(),
        metrics=metrics,
        seconds=progress.log.seconds,
        **vars(norms),
    )


def _metrics(problem: Problem, optimizer: torch.optim.Optimizer, splits: tuple[SplitName, ...]) -> dict[str, float]:
    with evaluation_mode(problem.model, optimizer), torch.no_grad():
        measured = {split: problem.evaluate(split) for split in splits}
    return {f"{split}_{name}": value for split, values in measured.items() for name, value in values.items()}
