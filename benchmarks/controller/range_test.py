"""Three changes to the default policy, tried on workloads of the lab.

1. The rise is a range test: while lr rises, the mean training loss is watched in windows of 8. Where it has turned up
   for good, the run goes back to the snapshot of its lowest point and never trains above a share of the lr there.
2. A longer first step, or any other constants of the policy (POLICY).
3. A decay whose share of the run follows the signal in the gradients (COH).

    COH=1 SIGMA=5 POLICY='{"first_relative_step": 0.01}' python range_test.py adamw siren,factorisation 0.5 all

The arguments are the base, the workloads (``development``: those that the default was developed on, and those it was
first tried on), the share of the lr, and ``all`` to watch the first quarter of the run instead of its first 80 steps.
SIGMA (default 4): standard errors that the loss has to be up by. BASE: options of AdamW, as JSON. Every run gets the
same number of gradient evaluations, DCAO's probes included.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import dcao
from dcao import policies
from dcao.guarding.snapshots import Snapshot
from dcao_lab.baselines import get_baseline
from dcao_lab.norms import trainable
from dcao_lab.workloads import Problem, StartRequest, get_workload

DEVELOPMENT = {
    "digits_mlp": 400,
    "digits_resnet": 200,
    "mnist1d_conv": 1000,
    "pydoc_gpt": 300,
    "digits_mlp_16": 400,
    "digits_vit": 300,
    "mnist1d_mlp": 1000,
    "pydoc_lstm": 250,
}
"""Budgets of the studies; other workloads have their own number of steps."""
GIVEN_LR = {"adamw": 1e-3, "sgd": 0.1}
WINDOW = 8
SEEDS = (0, 1, 2)
SNAPSHOT_EVERY, LAST_SNAPSHOT = 4, 400
LITTLE_SIGNAL, MUCH_SIGNAL = 0.15, 0.25  # cosines at which the decay takes 80 % and 30 % of the run


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is tried.

    Attributes:
        share: Largest lr after an alarm, as a share of the lr at the lowest loss.
        watch_all: Watch the first quarter of the run instead of its first 80 steps.
        sigma: Standard errors that the loss has to be up by.
        follow_signal: Whether the decay follows the signal in the gradients.
        policy: Constants of the default policy.
        adamw: Options of AdamW.
    """

    share: float
    watch_all: bool
    sigma: float = 4.0
    follow_signal: bool = False
    policy: dict[str, Any] = field(default_factory=dict)
    adamw: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, share: float, watch_all: bool) -> Trial:
        """With SIGMA, COH, POLICY and BASE."""
        return cls(
            share=share,
            watch_all=watch_all,
            sigma=float(os.environ.get("SIGMA", 4)),
            follow_signal=bool(os.environ.get("COH")),
            policy=json.loads(os.environ.get("POLICY", "{}")),
            adamw=json.loads(os.environ.get("BASE", "{}")),
        )


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one run; ``cap`` is the largest lr after the alarm of step ``capped_at``."""

    metric: float
    max_lr: float
    cap: float | None
    capped_at: int | None
    decay: float | None
    cosine: float | None


class RangeTest:
    """Watches the training loss, and at an alarm takes the run back and caps its lr."""

    def __init__(self, optimizer: dcao.DCAO, problem: Problem, trial: Trial, steps: int) -> None:
        self.optimizer, self.trial = optimizer, trial
        self.modules = list(problem.model.modules())
        self.last_step = steps * 0.25 if trial.watch_all else 80
        self.losses: list[float] = []
        self.lrs: list[float] = []
        self.means: list[float] = []  # of the losses of each window
        self.snapshots: dict[int, Snapshot] = {}
        self.cap: float | None = None
        self.capped_at: int | None = None

    def before_step(self, step: int) -> None:
        """Take a snapshot every few steps."""
        if self.cap is None and step % SNAPSHOT_EVERY == 0 and step < LAST_SNAPSHOT:
            self.snapshots[step] = Snapshot(self.optimizer.base, self.modules, step)

    def after_step(self, step: int, loss: float) -> None:
        """Look at the loss, and go back if it has turned up for good."""
        self.losses.append(loss)
        self.lrs.append(self.optimizer.param_groups[0]["lr"])
        if len(self.losses) >= WINDOW:
            self.means.append(statistics.mean(self.losses[-WINDOW:]))
        if self.cap is None and 2 * WINDOW <= step < self.last_step:
            lowest = min(range(len(self.means)), key=self.means.__getitem__)
            if self._has_turned_up(step, lowest):
                self._go_back(lowest + WINDOW // 2)
                self.capped_at = step

    def _has_turned_up(self, step: int, lowest: int) -> bool:
        if step + 1 - WINDOW < lowest + WINDOW:  # the two windows overlap
            return False
        recent, then = self.losses[-WINDOW:], self.losses[lowest : lowest + WINDOW]
        error = math.sqrt((statistics.pvariance(recent) + statistics.pvariance(then)) / WINDOW) + 1e-12
        up, gained = self.means[-1] - self.means[lowest], abs(self.means[0] - self.means[lowest])
        return up > self.trial.sigma * error and up > 0.1 * gained

    def _go_back(self, centre: int) -> None:
        """To the last snapshot before the lowest loss, with the rise over and lr capped."""
        before = [step for step in self.snapshots if step <= max(centre, min(self.snapshots))]
        self.cap = self.trial.share * self.lrs[centre]
        controller = self.optimizer.controller
        self.snapshots[max(before)].trade_places()
        controller.scale_lr(self.cap, self.lrs[-1])
        change_policy(self.optimizer, max_lr=self.cap)
        controller.policy_state = {**controller.policy_state, "arrived": True}
        self.snapshots.clear()


class Signal:
    """Cosine of successive batches' gradients: how much of a gradient is signal. The less, the longer the decay."""

    def __init__(self, optimizer: dcao.DCAO, problem: Problem, steps: int) -> None:
        self.optimizer, self.params, self.steps = optimizer, trainable(problem.model), steps
        self.last: Tensor | None = None
        self.cosines: list[float] = []
        self.decay: float | None = None

    def after_step(self, step: int) -> None:
        """Compare the gradient with the one before; after a fifth of the run set the decay."""
        parts = [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in self.params]
        gradient = torch.cat(parts)
        if self.last is not None and step > 0.05 * self.steps:
            self.cosines.append(float(gradient @ self.last / (gradient.norm() * self.last.norm() + 1e-30)))
        self.last = gradient
        if self.decay is None and step >= 0.2 * self.steps:
            share = (statistics.median(self.cosines) - LITTLE_SIGNAL) / (MUCH_SIGNAL - LITTLE_SIGNAL)
            self.decay = min(0.8, max(0.3, 0.8 - 0.5 * share))
            change_policy(self.optimizer, decay=self.decay)

    def early_cosine(self) -> float | None:
        """Median over 5 to 20 % of the run."""
        early = self.cosines[: int(0.15 * self.steps)]
        return round(statistics.median(early), 3) if early else None


def change_policy(optimizer: dcao.DCAO, **constants: float) -> None:
    """Go on with other constants of the policy and with its state."""
    optimizer.controller.policy = dataclasses.replace(optimizer.controller.policy, **constants)
    optimizer.policy = optimizer.controller.policy


def run(name: str, base: str, seed: int, trial: Trial, budget: int | None = None) -> Result:
    """One run of a workload, of ``budget`` gradient evaluations."""
    info = get_workload(name).info
    problem = get_workload(name).start(StartRequest(seed=seed))
    steps = get_baseline(f"dcao:{base}").steps_within(budget or DEVELOPMENT.get(name, info.num_steps))
    torch.manual_seed(seed)
    optimizer = dcao.DCAO(
        base_optimizer(base, problem, trial), policy=policies.Ceiling(total_steps=steps, **trial.policy)
    )
    test = RangeTest(optimizer, problem, trial, steps)
    signal = Signal(optimizer, problem, steps) if trial.follow_signal else None
    for step in range(steps):
        test.before_step(step)
        batch = next(problem.batches)
        loss = float(optimizer.minimize(lambda batch=batch: problem.loss(batch)))
        if signal is not None:
            signal.after_step(step)
        test.after_step(step, loss)
    problem.model.eval()
    with torch.no_grad():
        metric = problem.evaluate("test")[info.metric]
    return Result(
        metric=100 * metric if info.metric == "accuracy" else metric,
        max_lr=max(test.lrs),
        cap=test.cap,
        capped_at=test.capped_at,
        decay=round(signal.decay, 2) if signal is not None and signal.decay else None,
        cosine=signal.early_cosine() if signal is not None else None,
    )


def base_optimizer(base: str, problem: Problem, trial: Trial) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum 0.9."""
    params = trainable(problem.model)
    if base == "adamw":
        return torch.optim.AdamW(params, lr=GIVEN_LR[base], **trial.adamw)
    return torch.optim.SGD(params, lr=GIVEN_LR[base], momentum=0.9)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    base, words, share = sys.argv[1], sys.argv[2], float(sys.argv[3])
    names = list(DEVELOPMENT) if words == "development" else words.split(",")
    trial = Trial.from_environment(share, watch_all=len(sys.argv) > 4)
    for name in names:
        results = [run(name, base, seed, trial) for seed in SEEDS]
        median = statistics.median(result.metric for result in results)
        print(f"{name:18s} share {share:g} median {median:.4g}  " + "  ".join(map(describe, results)), flush=True)


def describe(result: Result) -> str:
    cap = None if result.cap is None else round(result.cap, 5)
    about = f"cap {cap} at {result.capped_at}, max {result.max_lr:.2g}, decay {result.decay} coh {result.cosine}"
    return f"{result.metric:.4g} ({about})"


if __name__ == "__main__":
    main()
