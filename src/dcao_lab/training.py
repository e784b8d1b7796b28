"""The training loop: one for every workload and every optimizer."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

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
        seconds: Time spent on training steps so far, probes included and evaluations not.
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

    def is_over(self, num_steps: float, gradient_evaluations: float) -> bool:
        """Whether the steps or the budget are spent."""
        return num_steps >= self.num_steps or (self.budget is not None and gradient_evaluations >= self.budget)

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
    step = minimizer(optimizer)
    yield _evaluate(problem, optimizer, progress, NO_NORMS, splits=WATCHED_SPLITS)
    while not progress.is_done:
        set_lrs()
        batch = next(problem.batches)
        before = flat_copy(params) if progress.expects_evaluation else None
        started = time.perf_counter()
        loss = step(partial(problem.loss, batch), batch).item()
        progress.note(loss, time.perf_counter() - started)
        if progress.is_done or log.num_steps % plan.eval_every == 0:
            norms = step_norms(params, before)
            yield _evaluate(
                problem, optimizer, progress, norms, splits=ALL_SPLITS if progress.is_done else WATCHED_SPLITS
            )


def minimize(optimizer: torch.optim.Optimizer, loss_fn: Callable[[], Tensor], batch: Batch | None = None) -> Tensor:
    """One training step of any optimizer; the loss before it."""
    return minimizer(optimizer)(loss_fn, batch).detach()


def minimizer(optimizer: torch.optim.Optimizer) -> Callable[[Callable[[], Tensor], Batch | None], Tensor]:
    """How this optimizer takes one training step, found out once: ``step(loss_fn, batch)`` returns the loss before it.

    An optimizer that has ``minimize`` is given the loss itself, and ``batch`` as well if it says ``needs_batch``.
    """
    own = getattr(optimizer, "minimize", None)
    if own is None:
        return partial(_backward_and_step, optimizer)
    return own if getattr(optimizer, "needs_batch", False) else lambda loss_fn, batch: own(loss_fn)


def _backward_and_step(optimizer: torch.optim.Optimizer, loss_fn: Callable[[], Tensor], batch: Batch | None) -> Tensor:
    optimizer.zero_grad()
    loss = loss_fn()
    loss.backward()
    optimizer.step()
    return loss


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

    Everything here happens at every step, between steps that may take a millisecond: what does not change is looked up
    once (``benchmarks/lab_overhead.py`` measures what is left).
    """

    def __init__(self, plan: TrainingPlan, log: TrainingLog, optimizer: torch.optim.Optimizer) -> None:
        self.plan, self.log, self.optimizer = plan, log, optimizer
        self.gradient_evaluations = probe_cost(optimizer)
        self.is_done = False
        self._probes = hasattr(optimizer, "probe_cost")
        self._dearest_step = 1.0
        self._lost_in_a_row = 0
        self._num_evaluated = 0  # steps before the last evaluation

    def note(self, loss: float, seconds: float) -> None:
        log, num_steps = self.log, self.log.num_steps + 1
        spent = num_steps + probe_cost(self.optimizer) if self._probes else float(num_steps)
        log.note(loss, training_lr(self.optimizer), spent, seconds)
        if self._probes:
            self._dearest_step = max(self._dearest_step, spent - self.gradient_evaluations)
        self.gradient_evaluations = spent
        self._lost_in_a_row = 0 if math.isfinite(loss) else self._lost_in_a_row + 1
        self.is_done = self._lost_in_a_row >= PATIENCE or self.plan.is_over(num_steps, spent)

    @property
    def share_after_next(self) -> float:
        """Share of the run that is done once the coming step is, probes in it left out."""
        return self.plan.share_done(self.log.num_steps + 1, self.gradient_evaluations + 1.0)

    @property
    def expects_evaluation(self) -> bool:
        """Whether the coming step may end in an evaluation: for certain, or if it costs what the dearest has cost."""
        coming = self.log.num_steps + 1
        return (
            coming % self.plan.eval_every == 0
            or self._lost_in_a_row == PATIENCE - 1
            or self.plan.is_over(coming, self.gradient_evaluations + self._dearest_step)
        )

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
