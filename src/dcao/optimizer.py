"""DCAO: a torch optimizer around another one, which measures curvature and adapts hyperparameters while it trains."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from dcao import policies, schedules
from dcao.controller import Controller
from dcao.curvature import CurvatureEstimate, Measure, require_measure
from dcao.guard import Guard
from dcao.isolation import RngState, capture_rng, leave_no_trace
from dcao.operators.base import LossFn, evaluate_loss
from dcao.operators.hvp import HvpKind
from dcao.optimizer_models import OptimizerModel, optimizer_model
from dcao.policies.base import Decision, Hyperparameters, Observation, Policy, reason_to_hold
from dcao.policies.fixed import Fixed
from dcao.probe import CurvatureProbe, ProbeSettings
from dcao.probe_batch import Closure, ProbeBatch, ProbeLoader, closure_gradient
from dcao.schedules import Schedule
from dcao.telemetry import Recorder, StepRecord

DEFAULT_EVERY = 10
"""Steps between probes: a tenth of a gradient evaluation a step with the default measure."""

SETTLING_STEPS = 200
"""For so long at most, every step is probed while the lr rule is at its clip."""

MAX_PROBES_BEFORE_START = 60
"""Probes before the first update: 0.8**60 takes an lr of 10 below 2e-5."""


class DCAO(Optimizer):
    """A torch optimizer that wraps another one and keeps its step size where stability theory says it should be.

    Three ways to use it:

    - ``optimizer.minimize(loss_fn)``: ``loss_fn`` returns the scalar loss and never calls backward. Zeroes the gradients,
      runs backward, probes when due, steps.
    - ``optimizer.step(closure)``: torch's contract; the closure zeroes the gradients, calls backward, returns the loss.
    - ``optimizer.step()``, and ``optimizer.probe(loss_fn)`` whenever you like: for GradScaler, gradient accumulation, and
      trainers that own the loop.

    Without a learning-rate scheduler ``param_groups[i]["lr"]`` is the lr that trains. With one it stays the scheduler's
    nominal lr, DCAO is a governor that trains at most at that, and :attr:`effective_lrs` says what trains. A probe
    leaves no trace on the model, and what goes wrong in one is a reason in the log, never an exception.

    Args:
        base: The optimizer to wrap: SGD, Adam, AdamW, NAdam, RMSprop or Adagrad of torch; others with
            :func:`dcao.register_optimizer`, or with ``policy=policies.fixed()``.
        measure: How s, the stability number with its edge at 2, is measured: ``"load"`` (mini-batch curvature along the
            step, signal and noise apart; 1 gradient evaluation a probe), ``"batch"`` (the same without momentum),
            ``"preconditioned"`` (largest eigenvalue of ``P^-1/2 H P^-1/2``) or ``"hessian"`` (the proposal's
            ``lr * lambda_max``; meaningful for SGD alone).
        target: s that the default policy holds. Default 1.5: measured in the prototype, three quarters of the edge.
        every: Steps between probes, or a schedule ``(step, cost) -> bool`` (:mod:`dcao.schedules`). Default 10.
        overhead: Instead of ``every``: probe as often as this share of all gradient evaluations allows.
        policy: Decides on hyperparameters. Default: the proposal's learning-rate rule at ``target``, on a median of 3
            probes; momentum and weight decay stay. ``policies.fixed()`` changes nothing.
        recorder: Takes a :class:`StepRecord` a probe.
        k: Eigenpairs of a Lanczos run.
        num_lanczos_steps: Products of a Lanczos run at most; default :func:`dcao.lanczos`'s.
        spectrum_every: Steps between Lanczos runs that only inform (``estimate.ritz_values``); default never.
        smallest: Also measure the smallest eigenvalue when a Lanczos run is made.
        hvp: ``"auto"``: one-sided differences along the step (the training batch's gradient is there already), and
            for Lanczos exact products with central differences where torch refuses them. Or ``"exact"``, ``"central"``,
            ``"forward"``.
        step_length: Length of finite differences in parameter space. Default: what suits rounding
            (:func:`dcao.operators.default_step_length`), so that s is the Hessian's. ``"step"``: along the step, the
            length of the step itself, so that s is the curvature which such a step meets, kinks included.
        probe_batch: What to probe. Default: the training batch. A ``loss_fn`` of your own, or a :class:`ProbeLoader`.
        groups: Indices of the param groups whose curvature is measured; default all.
        momentum_aware: Take the measure ``"hessian"`` relative to ``2 (1 + momentum) / lr``.
        settle: Before the first update probe until the lr rule no longer cuts, and in the beginning at every step while
            it is at its clip.
        guard: Skip a step whose loss or gradients are not finite, and halve the lr. Default: on, unless the policy is
            ``fixed``. Reads one number back from the device each step.
        snapshot_every: Steps between copies in memory of parameters, buffers and optimizer state, to which a run goes
            back after 3 skipped steps in a row. Default: none.
        governor: Under a scheduler, never exceed its lr.
        seed: Of the random start vectors; the global random streams are never used.

    Raises:
        TypeError, ValueError: On a wrong argument, with the rule, the value and the fix.

    Example:
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = DCAO(torch.optim.SGD(model.parameters(), lr=1e-4))
        >>> x, y = torch.randn(64, 4), torch.randn(64, 1)
        >>> for _ in range(200):
        ...     loss = optimizer.minimize(lambda: torch.nn.functional.mse_loss(model(x), y))
        >>> optimizer.param_groups[0]["lr"] > 0.1
        True
    """

    def __init__(
        self,
        base: Optimizer,
        *,
        measure: Measure = "load",
        target: float = 1.5,
        every: int | Schedule | None = None,
        overhead: float | None = None,
        policy: Policy | None = None,
        recorder: Recorder | None = None,
        k: int = 5,
        num_lanczos_steps: int | None = None,
        spectrum_every: int | None = None,
        smallest: bool = False,
        hvp: HvpKind = "auto",
        step_length: float | Literal["step"] | None = None,
        probe_batch: LossFn | ProbeLoader | None = None,
        groups: tuple[int, ...] | None = None,
        momentum_aware: bool = False,
        settle: bool = True,
        guard: bool | None = None,
        snapshot_every: int | None = None,
        governor: bool = True,
        seed: int = 0,
    ) -> None:
        _check_base(base)
        self.base = base
        super().__init__(base.param_groups, base.defaults)
        self._share_base_groups()
        self.policy = _choose_policy(base, policy, target)
        self._adapts = not isinstance(self.policy, Fixed)
        self._schedule, self._scheduled = _choose_schedule(every, overhead, adapts=self._adapts)
        self._settle = settle and self._adapts and overhead is None
        self._spectrum = None if spectrum_every is None else schedules.every(spectrum_every)
        self._probe_batch = _check_probe_batch(probe_batch)
        self.recorder = recorder
        self.curvature_probe = CurvatureProbe(
            ProbeSettings(
                measure=require_measure(measure),
                k=k,
                num_lanczos_steps=num_lanczos_steps,
                hvp=hvp,
                step_length=step_length,
                momentum_aware=momentum_aware,
                smallest=smallest,
                groups=groups,
            ),
            seed=seed,
        )
        self.curvature_probe.params(base)  # refuses a model without trainable parameters at once
        self.controller = Controller(self.policy, base, self._find_model(), governor=governor)
        self.guard = Guard(enabled=self._adapts if guard is None else guard, snapshot_every=snapshot_every)
        self.num_steps = 0
        self.probe_cost = 0.0
        self.last_estimate: CurvatureEstimate | None = None
        self.last_decision: Decision | None = None
        self._last_cost = 1.0
        self._clipped = True
        self._probed_at = -1
        self._pending: _Pending | None = None

    @classmethod
    def literal(
        cls,
        base: Optimizer,
        *,
        every: int | Schedule,
        k: int = 10,
        target: float = 1.5,
        gamma_down: float = 0.8,
        gamma_up: float = 1.1,
        alpha_beta: float = 0.05,
        alpha_wd: float = 0.05,
        recorder: Recorder | None = None,
        hvp: HvpKind = "auto",
        seed: int = 0,
    ) -> DCAO:
        """The proposal's algorithm to the letter: raw lambda_max by ``k`` Lanczos steps every T steps, all three rules.

        It raises AdamW's lr without end, because ``lr * lambda_max`` is far under any target there. It is here to be
        compared with. Rules for hyperparameters that ``base`` does not use are left out.

        Args:
            base: The optimizer to wrap.
            every: T, the steps between probes.
            k: Lanczos steps, and eigenpairs.
            target: C_target, which the proposal wants between 1.0 and 1.8.
            gamma_down: As in :func:`dcao.policies.learning_rate`.
            gamma_up: As in :func:`dcao.policies.learning_rate`.
            alpha_beta: As in :func:`dcao.policies.momentum`, without anchor.
            alpha_wd: As in :func:`dcao.policies.weight_decay`, without anchor.
            recorder: As for :class:`DCAO`.
            hvp: As for :class:`DCAO`.
            seed: As for :class:`DCAO`.

        Example:
            >>> model = torch.nn.Linear(4, 1)
            >>> optimizer = DCAO.literal(torch.optim.AdamW(model.parameters(), lr=1e-3), every=100, k=10)
        """
        now = Controller(policies.fixed(), base, optimizer_model(base)).hyperparameters(base)
        rules: list[Policy] = [policies.learning_rate(target, gamma_down=gamma_down, gamma_up=gamma_up)]
        if now.momentum:
            rules.append(policies.momentum(alpha_beta, target=target, anchor=0.0))
        if now.weight_decay:
            rules.append(policies.weight_decay(alpha_wd, target=target, anchor=0.0))
        return cls(
            base,
            measure="hessian",
            every=every,
            policy=policies.compose(*rules),
            recorder=recorder,
            k=k,
            num_lanczos_steps=k,
            hvp=hvp,
            settle=False,
            guard=False,
            seed=seed,
        )

    # --- three ways in ----------------------------------------------------------------------------------------

    def minimize(self, loss_fn: LossFn) -> Tensor:
        """One training step on ``loss_fn``, which returns the scalar loss with its graph; the loss, detached."""
        if not callable(loss_fn):
            raise TypeError(f"loss_fn must be callable, got {type(loss_fn).__name__}; pass lambda: loss, not the loss")
        self.zero_grad()
        rng_state = capture_rng(self._all_params()) if self._is_due() else None
        with torch.enable_grad():
            loss = evaluate_loss(loss_fn)
            loss.backward()  # type: ignore[no-untyped-call]
        self._pending = _Pending(loss=loss.detach(), rng_state=rng_state, loss_fn=loss_fn)
        try:
            self.step()
        finally:
            self._pending = None
        return loss.detach()

    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """One training step: with a closure by torch's contract, or on the gradients that are there."""
        self.controller.sync(self.base)
        pending, self._pending = self._pending, None
        if closure is not None and self.controller.model is None:
            return self._pass_through(closure)
        loss = None
        if closure is not None:
            pending, loss = self._run_closure(closure)
        if self._is_safe(pending):
            self._probe_if_due(pending)
            with self.controller.training_lrs(self.base):
                self.base.step()
        self.num_steps += 1
        return loss

    def probe(self, loss_fn: LossFn, *, spectrum: bool = False) -> CurvatureEstimate:
        """Measure ``loss_fn`` now, act on it as the policy says, and return what was measured.

        Args:
            loss_fn: Returns the scalar loss with its graph. What it raises passes through, with the state restored.
            spectrum: Also run Lanczos for the top of the Hessian's spectrum.
        """
        if not callable(loss_fn):
            raise TypeError(f"loss_fn must be callable, got {type(loss_fn).__name__}; pass lambda: loss, not the loss")
        self.controller.sync(self.base)
        batch = ProbeBatch(loss_fn=loss_fn, rng_state=capture_rng(self._all_params()))
        started = time.perf_counter()
        estimate = self._measure([batch], spectrum=spectrum)
        self._act(estimate, loss=estimate.loss, started=started)
        return estimate

    # --- what trains ------------------------------------------------------------------------------------------

    @property
    def effective_lrs(self) -> list[float]:
        """The lr that the coming step uses, for each param group."""
        self.controller.sync(self.base)
        return self.controller.effective_lrs(self.base)

    @property
    def num_skipped(self) -> int:
        """Steps that the guard has skipped."""
        return self.guard.num_skipped

    # --- torch's contract -------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """The base optimizer's."""
        self.base.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer, and so to this one."""
        if self.__dict__.get("param_groups") is not self.base.param_groups:
            super().add_param_group(param_group)  # called by Optimizer.__init__, before the groups are shared
            return
        self.controller.sync(self.base)
        self.base.add_param_group(param_group)
        self.controller.note_groups(self.base)

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state, which it can load as it is, and DCAO's own under the key ``"dcao"``."""
        for pre_hook in self._optimizer_state_dict_pre_hooks.values():
            pre_hook(self)
        state_dict = {**self.base.state_dict(), "dcao": self._own_state()}
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            state_dict = post_hook(self, state_dict) or state_dict
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint of this class, or of the bare optimizer: then DCAO starts fresh from it."""
        state_dict = dict(state_dict)
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = pre_hook(self, state_dict) or state_dict
        own = state_dict.pop("dcao", None)
        self.base.load_state_dict(state_dict)
        self._share_base_groups()  # the base has replaced its lists
        self._load_own_state(own)
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def __getstate__(self) -> dict[str, Any]:
        # torch's drops all fields but its own; schedulers leave a wrapped `step` behind, which must not be copied.
        dropped = {"step", "_pending"}
        state = {key: value for key, value in self.__dict__.items() if key not in dropped and "hook" not in key}
        return {**state, "_pending": None}

    def _share_base_groups(self) -> None:
        self.param_groups, self.state = self.base.param_groups, self.base.state

    # --- probing ----------------------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        """Whether a probe is due before the coming step."""
        if self._probed_at == self.num_steps:
            return False
        settling = self._settle and self._clipped and self.num_steps < SETTLING_STEPS
        scheduled = self._schedule is not None and self._schedule(self.num_steps, self.probe_cost + self._last_cost)
        return settling or scheduled or self._spectrum_is_due()

    def _spectrum_is_due(self) -> bool:
        return self._spectrum is not None and self._spectrum(self.num_steps, 0.0)

    def _probe_if_due(self, pending: _Pending | None) -> None:
        if not self._is_due():
            return
        batches = self._batches(pending)
        if batches is None:
            self._nothing_to_probe()
            return
        loss = None if pending is None else pending.loss_value
        first = self.num_steps == 0 and self._settle
        for _ in range(MAX_PROBES_BEFORE_START if first else 1):
            started = time.perf_counter()
            before = self.controller.hyperparameters(self.base).lr
            estimate = self._try_to_measure(batches)
            decision = self._act(estimate, loss=loss, started=started)
            if not (decision.clipped and decision.hyperparameters.lr < before):
                return

    def _batches(self, pending: _Pending | None) -> list[ProbeBatch] | None:
        params = self.curvature_probe.params(self.base)
        if isinstance(self._probe_batch, ProbeLoader):
            rng_state = capture_rng(params)
            with leave_no_trace(params, modules=self.curvature_probe.modules(params)):
                return self._probe_batch.draw(rng_state)
        if self._probe_batch is not None:
            return [ProbeBatch(loss_fn=self._probe_batch, rng_state=capture_rng(params))]
        return None if pending is None else [pending.as_probe_batch(params)]

    def _nothing_to_probe(self) -> None:
        """With a schedule of the caller's, an error; else it is one only if the run never probes at all."""
        if self._scheduled or self.last_estimate is None:
            raise ValueError(
                f"a probe is due at step {self.num_steps} and there is nothing to probe: call optimizer.minimize(loss_fn), "
                "step(closure), or optimizer.probe(loss_fn) before step(); or give probe_batch="
            )

    def _try_to_measure(self, batches: list[ProbeBatch]) -> CurvatureEstimate:
        """A probe never stops training: whatever it raises becomes the reason of an estimate without trust."""
        try:
            return self._measure(batches, spectrum=self._spectrum_is_due())
        except Exception as error:
            reason = f"the probe failed: {type(error).__name__}: {error}"
            measure = self.curvature_probe.settings.measure
            return CurvatureEstimate(step=self.num_steps, measure=measure, cost=self._last_cost, reason=reason)

    def _measure(self, batches: list[ProbeBatch], *, spectrum: bool) -> CurvatureEstimate:
        with self.controller.training_lrs(self.base):
            return self.curvature_probe.measure(self.base, batches, step=self.num_steps, spectrum=spectrum)

    def _act(self, estimate: CurvatureEstimate, *, loss: float | None, started: float) -> Decision:
        """Ask the policy, write its answer, record both."""
        before = self.controller.hyperparameters(self.base)
        s = estimate.s if estimate.s is not None and estimate.s == estimate.s else None
        observation = Observation(step=self.num_steps, s=s, trust=estimate.trust, hyperparameters=before)
        decision = self.controller.decide(observation)
        carried_out = self.controller.apply(self.base, decision)
        self.probe_cost += estimate.cost
        self._last_cost, self._probed_at = estimate.cost, self.num_steps
        if reason_to_hold(observation) is None:  # a probe that says nothing settles nothing
            self._clipped = decision.clipped
        self.last_estimate, self.last_decision = estimate, carried_out
        self._record(estimate, observation, carried_out, before, loss, time.perf_counter() - started)
        return decision

    def _record(
        self,
        estimate: CurvatureEstimate | None,
        observation: Observation | None,
        decision: Decision,
        before: Hyperparameters,
        loss: float | None,
        seconds: float,
    ) -> None:
        if self.recorder is None:
            return
        self.recorder.record(
            StepRecord(
                step=self.num_steps,
                loss=loss,
                estimate=estimate,
                observation=observation,
                decision=decision,
                before=before,
                after=self.controller.hyperparameters(self.base),
                cost=0.0 if estimate is None else estimate.cost,
                total_cost=self.probe_cost,
                seconds=seconds,
            )
        )

    # --- helpers ----------------------------------------------------------------------------------------------

    def _run_closure(self, closure: Closure) -> tuple[_Pending, Any]:
        rng_state = capture_rng(self._all_params()) if self._is_due() else None
        with torch.enable_grad():
            loss = closure()
        closure_gradient(self._all_params())  # refuses a closure that never calls backward
        value = loss.detach() if isinstance(loss, Tensor) else loss
        return _Pending(loss=value, rng_state=rng_state, closure=closure), loss

    def _pass_through(self, closure: Closure) -> Any:
        """An optimizer that calls its closure as it pleases (LBFGS) is left alone."""
        with self.controller.training_lrs(self.base):
            loss = self.base.step(closure)
        self.num_steps += 1
        return loss

    def _is_safe(self, pending: _Pending | None) -> bool:
        """Whether the guard lets this step pass; if not, the lr has been answered and the skip recorded."""
        modules = self.curvature_probe.modules(self.curvature_probe.params(self.base)) if self.guard.enabled else []
        loss = None if pending is None or not self.guard.enabled else pending.loss_value
        verdict = self.guard.check(self.base, modules, loss, self.num_steps)
        if verdict is None:
            return True
        before = self.controller.hyperparameters(self.base)
        if self._adapts:
            self.controller.scale_lr(self.base, verdict.factor)
        decision = Decision(hyperparameters=self.controller.hyperparameters(self.base), reason=verdict.reason)
        self._record(None, None, decision, before, loss, 0.0)
        return False

    def _all_params(self) -> list[Tensor]:
        return [p for group in self.base.param_groups for p in group["params"]]

    def _find_model(self) -> OptimizerModel | None:
        """The record of the base's class, demanded if a stability number is going to be measured."""
        try:
            return optimizer_model(self.base)
        except TypeError:
            if self._adapts or self._schedule is not None or self._spectrum is not None:
                raise
            return None

    def _own_state(self) -> dict[str, Any]:
        loader = self._probe_batch
        return {
            "num_steps": self.num_steps,
            "probe_cost": self.probe_cost,
            "last_cost": self._last_cost,
            "clipped": self._clipped,
            "probed_at": self._probed_at,
            "controller": self.controller.state_dict(),
            "probe": self.curvature_probe.state_dict(),
            "guard": self.guard.state_dict(),
            "loader": loader.state_dict() if isinstance(loader, ProbeLoader) else None,
        }

    def _load_own_state(self, state: dict[str, Any] | None) -> None:
        self.controller.load_state_dict(self.base, None if state is None else state["controller"])
        if state is None:
            self.num_steps, self.probe_cost, self._last_cost = 0, 0.0, 1.0
            self._clipped, self._probed_at = True, -1
            return
        self.num_steps, self.probe_cost = state["num_steps"], state["probe_cost"]
        self._last_cost, self._clipped, self._probed_at = state["last_cost"], state["clipped"], state["probed_at"]
        self.curvature_probe.load_state_dict(state["probe"])
        self.guard.load_state_dict(state["guard"])
        if isinstance(self._probe_batch, ProbeLoader) and state["loader"] is not None:
            self._probe_batch.load_state_dict(state["loader"])


@dataclass(frozen=True, kw_only=True)
class _Pending:
    """The training batch between its backward pass and the update."""

    loss: Any
    rng_state: RngState | None
    loss_fn: LossFn | None = None
    closure: Closure | None = None

    @property
    def loss_value(self) -> float | None:
        return None if self.loss is None else float(self.loss)

    def as_probe_batch(self, params: list[Tensor]) -> ProbeBatch:
        gradient = [torch.zeros_like(p) if p.grad is None else p.grad.detach() for p in params]
        rng_state = self.rng_state if self.rng_state is not None else capture_rng(params)
        return ProbeBatch(
            loss_fn=self.loss_fn, closure=self.closure, rng_state=rng_state, gradient=gradient, loss=self.loss_value
        )


def _check_base(base: Optimizer) -> None:
    if not isinstance(base, Optimizer):
        raise TypeError(f"base must be a torch.optim.Optimizer, got {type(base).__name__}")
    if isinstance(base, DCAO):
        raise TypeError("base must be a plain optimizer, got DCAO; wrap it once")
    if not any(float(group["lr"]) > 0.0 for group in base.param_groups):
        raise ValueError(
            "lr must be positive in at least one param group, got 0 in all: DCAO scales the lr that it is given; "
            "if a scheduler has set it to 0, wrap the optimizer first and build the scheduler on the wrapper"
        )


def _choose_policy(base: Optimizer, policy: Policy | None, target: float) -> Policy:
    if policy is not None:
        if target != 1.5:
            warnings.warn("target has no effect beside policy; give it to the policy", UserWarning, stacklevel=3)
        return policy
    if isinstance(base, LBFGS):
        return policies.fixed()  # it chooses its own step: pass through
    return policies.smoothed(policies.learning_rate(target))


def _choose_schedule(
    every: int | Schedule | None, overhead: float | None, *, adapts: bool
) -> tuple[Schedule | None, bool]:
    """The schedule, and whether the caller asked for one."""
    if every is not None and overhead is not None:
        raise ValueError(f"give every or overhead, not both, got every={every!r} and overhead={overhead!r}")
    if overhead is not None:
        return schedules.overhead(overhead), True
    if every is not None:
        return (every if isinstance(every, Callable) else schedules.every(every)), True  # type: ignore[arg-type]
    return (schedules.every(DEFAULT_EVERY) if adapts else None), False


def _check_probe_batch(probe_batch: LossFn | ProbeLoader | None) -> LossFn | ProbeLoader | None:
    if probe_batch is None or isinstance(probe_batch, ProbeLoader) or callable(probe_batch):
        return probe_batch
    raise TypeError(
        f"probe_batch must be a loss_fn or a dcao.ProbeLoader, got {type(probe_batch).__name__}; "
        "wrap a DataLoader as ProbeLoader(loader, batch_loss)"
    )
