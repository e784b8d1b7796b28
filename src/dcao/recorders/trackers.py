"""Recorders that write into a run of Weights & Biases or of trackio, next to what the training logs there itself."""

from __future__ import annotations

import sys
from typing import Any

from dcao.recorders.base import Recorder
from dcao.recorders.scalars import PREFIX, REASON, scalars_of
from dcao.telemetry import StepRecord

STEP = PREFIX + "step"
"""The name of the optimizer step in a tracker whose own steps may count something else."""


class _RunRecorder(Recorder):
    """Recorder of a run that the caller starts and finishes; a copy writes into the same run."""

    def __init__(self, run: Any = None) -> None:
        self.run = run

    def __deepcopy__(self, memo: dict[int, Any]) -> _RunRecorder:
        return type(self)(self.run)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), ())  # a run belongs to its process


class WandbRecorder(_RunRecorder):
    """Recorder that writes into a run of Weights & Biases, online or offline.

    Its curves are named ``dcao/...`` and have the optimizer step as their axis, ``dcao/step``. W&B drops rows whose
    ``step=`` is behind an earlier one, so rows of your own either have none or count optimizer steps at least.

    Args:
        run: What ``wandb.init`` has returned. Default: the run that is active when a record comes, as that of a
            trainer. What is unpickled, in a new process, writes into the active run too.

    Example:
        >>> class Run:  # in place of wandb.init(project="...")
        ...     step = 0
        ...     def define_metric(self, name, step_metric): print(name, "over", step_metric)
        ...     def log(self, row, step): print(step, row["dcao/lr"])
        >>> import torch
        >>> from dcao import DCAO, WandbRecorder, policies
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> sgd = torch.optim.SGD([weight], lr=0.25)
        >>> optimizer = DCAO(sgd, policy=policies.Fixed(), every=2, recorder=WandbRecorder(Run()))
        >>> for _ in range(4):
        ...     loss = optimizer.minimize(lambda: weight.square().sum())
        dcao/* over dcao/step
        0 0.25
        2 0.25
    """

    _prepared: Any = None

    def record(self, record: StepRecord) -> None:
        """Write the numbers of a record, and the reason of its decision."""
        run = _active_wandb_run() if self.run is None else self.run
        if run is not self._prepared:
            run.define_metric(PREFIX + "*", step_metric=STEP)
            self._prepared = run
        run.log({**_row(record), STEP: record.step}, step=max(record.step, run.step))


class TrackioRecorder(_RunRecorder):
    """Recorder that writes into a run of trackio, which keeps it in a local database unless told otherwise.

    Its curves are named ``dcao/...``, and their step is the optimizer step.

    Args:
        run: What ``trackio.init`` has returned. Default: the run that is active when a record comes, as that of a
            trainer. What is unpickled, in a new process, writes into the active run too.

    Example:
        >>> class Run:  # in place of trackio.init(project="...")
        ...     def log(self, row, step): print(step, row["dcao/lr"])
        >>> import torch
        >>> from dcao import DCAO, TrackioRecorder, policies
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> sgd = torch.optim.SGD([weight], lr=0.25)
        >>> optimizer = DCAO(sgd, policy=policies.Fixed(), every=2, recorder=TrackioRecorder(Run()))
        >>> for _ in range(4):
        ...     loss = optimizer.minimize(lambda: weight.square().sum())
        0 0.25
        2 0.25
    """

    def record(self, record: StepRecord) -> None:
        """Write the numbers of a record, and the reason of its decision."""
        run = _active_trackio_run() if self.run is None else self.run
        run.log(_row(record), step=record.step)


def _row(record: StepRecord) -> dict[str, Any]:
    return {**scalars_of(record), REASON: record.decision.reason}


def _active_wandb_run() -> Any:
    wandb = sys.modules.get("wandb")  # whoever has started a run has imported it
    return _required(getattr(wandb, "run", None), "wandb.init")


def _active_trackio_run() -> Any:
    trackio = sys.modules.get("trackio")
    return _required(None if trackio is None else trackio.context_vars.current_run.get(), "trackio.init")


def _required(run: Any, start: str) -> Any:
    if run is None:
        raise RuntimeError(f"no run is active: call {start}(...) before the training, or pass what it returns")
    return run
