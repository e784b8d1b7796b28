"""The training loop: one for every workload and every optimizer."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dcao_lab.norms import NO_NORMS, StepNorms, flat_copy, step_norms, trainable
from dcao_lab.runs.schedules import LrFactor, constant
from dcao_lab.runs.training_log import TrainingLog
from dcao_lab.workloads.base import Problem, SplitName

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
        update_norm: The same of what that step changed; None also where the run ended in a step of which that was not
            foreseen: by a probe that was left out of account, or by its losses.
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
    schedule: LrFactor = constant

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
    steps = training_steps(optimizer, problem.loss, problem.batches)
    yield _evaluate(problem, optimizer, progress, NO_NORMS, splits=WATCHED_SPLITS)
    started = time.perf_counter()
    while not progress.is_done:
        log.loss.extend(islice(steps, progress.num_undecided))
        before = flat_copy(params) if progress.expects_evaluation and not is_lost(log.loss) else None
        set_lrs()
        log.loss.extend(islice(steps, 1))
        progress.update()
        if progress.is_at_evaluation:
            log.seconds += time.perf_counter() - started
            norms, splits = step_norms(params, before), ALL_SPLITS if progress.is_done else WATCHED_SPLITS
            yield _evaluate(problem, optimizer, progress, norms, splits)
            started = time.perf_counter()


def training_steps(
    optimizer: torch.optim.Optimizer, loss: Callable[[Any], Tensor], batches: Iterator[Any]
) -> Iterator[float]:
    """Training steps, each made when it is asked for, the loss before each; over once ``PATIENCE`` in a row are lost.

    An optimizer that has ``minimize`` is given the loss itself, and the batch as well if it says ``needs_batch``.
    """
    own, needs_batch = getattr(optimizer, "minimize", None), getattr(optimizer, "needs_batch", False)
    num_lost = 0
    while num_lost < PATIENCE:
        batch = next(batches)
        if own is None:
            optimizer.zero_grad()
            value = loss(batch)
            torch.autograd.backward(value)
            optimizer.step()
        else:
            value = own(partial(loss, batch), batch) if needs_batch else own(partial(loss, batch))
        number = value.item()
        num_lost = 0 if math.isfinite(number) else num_lost + 1
        yield number


def is_lost(losses: Sequence[float]) -> bool:
    """Whether the last ``PATIENCE`` losses are all nan or inf."""
    return len(losses) >= PATIENCE and not any(map(math.isfinite, losses[-PATIENCE:]))


def probe_cost(optimizer: torch.optim.Optimizer) -> float:
    """Gradient evaluations that ``optimizer`` has spent on probes; 0 for one that does not probe."""
    return float(getattr(optimizer, "probe_cost", 0.0))


def training_lr(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate that trains the first param group: under a schedule DCAO's is a multiple of what is there."""
    effective = getattr(optimizer, "effective_lrs", None)
    return float(effective[0] if effective else optimizer.param_groups[0]["lr"])


@runtime_checkable
class _HasModes(Protocol):
    def eval(self) -> object: ...

    def train(self) -> object: ...


@contextlib.contextmanager
def evaluation_mode(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The model in eval mode, and the optimizer if it has modes (averaging ones do); in train mode afterwards."""
    switched = [model, optimizer] if isinstance(optimizer, _HasModes) else [model]
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
        is_done: Whether the run is over: its plan is done, or its loss lost.
        is_at_evaluation: Whether the last step ends in an evaluation.
        num_undecided: Coming steps after which none of this can change, unless they end; after the next it may.
        expects_evaluation: Whether that one may end in an evaluation: surely, or if it costs what the dearest cost.

    A step may take a millisecond, in which the rest of the program has left the processor's caches: to call a function
    after each costs half a percent of it (``benchmarks/lab_overhead.py``). So nothing is called where nothing is to do.
    """

    def __init__(self, plan: TrainingPlan, log: TrainingLog, optimizer: torch.optim.Optimizer) -> None:
        self.plan, self.log, self.optimizer = plan, log, optimizer
        self.is_done = self.is_at_evaluation = False
        self._budget = math.inf if plan.budget is None else plan.budget
        # Torch's own optimizers keep their lr and cost one evaluation a step; of others nobody knows.
        self._is_steady = plan.schedule is constant and type(optimizer).__module__.startswith("torch.optim.")
        self._dearest_step = 1.0
        self._num_evaluated = 0  # steps before the last evaluation
        self._look_ahead(self.gradient_evaluations)

    @property
    def gradient_evaluations(self) -> float:
        """Spent so far, probes included."""
        return float(self.log.num_steps) + probe_cost(self.optimizer)

    def update(self) -> None:
        """Complete the log of the steps whose losses are new in it, and decide."""
        log, plan, spent = self.log, self.plan, self.gradient_evaluations
        num_new = log.num_steps - len(log.lr)
        log.lr.extend([training_lr(self.optimizer)] * num_new)
        log.gradient_evaluations.extend([spent - left for left in range(num_new - 1, -1, -1)])
        if num_new == 1:
            self._dearest_step = max(self._dearest_step, spent - self._spent)
        self.is_done = log.num_steps >= plan.num_steps or spent >= self._budget or is_lost(log.loss)
        self.is_at_evaluation = self.is_done or log.num_steps % plan.eval_every == 0
        self._look_ahead(spent)

    def _look_ahead(self, spent: float) -> None:
        self._spent = spent
        coming, every = self.log.num_steps + 1, self.plan.eval_every
        last = min(self.plan.num_steps, coming + self._budget - spent - self._dearest_step)
        next_evaluation = min(last, -(-coming // every) * every)
        self.num_undecided = max(0, math.ceil(next_evaluation) - coming) if self._is_steady else 0
        self.expects_evaluation = coming + self.num_undecided >= next_evaluation

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
        # As torch's schedulers do it: DCAO sees by it, before the first step, that the schedule is somebody else's.
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
