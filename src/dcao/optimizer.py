"""DCAO: a torch optimizer around another one, which measures curvature and adapts hyperparameters while it trains."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from dcao import policies
from dcao.arguments import (
    check_base,
    check_probe_batch,
    check_settings,
    choose_policy,
    choose_timing,
    find_model,
    require_callable,
)
from dcao.controller import Controller
from dcao.guard import Guard
from dcao.isolation import RngState, capture_rng
from dcao.loop import ProbeLoop, TrainingBatch
from dcao.operators.base import LossFn, evaluate_loss
from dcao.operators.hvp import HvpKind
from dcao.policies.base import Decision, Policy, settles
from dcao.policies.ceiling import TARGET
from dcao.policies.fixed import Fixed
from dcao.probing.batch import Closure, require_gradient
from dcao.probing.estimate import CurvatureEstimate, Measure, require_measure
from dcao.probing.loader import ProbeLoader
from dcao.probing.probe import CurvatureProbe
from dcao.probing.settings import ProbeSettings
from dcao.schedules import Schedule
from dcao.telemetry import Recorder
from dcao.updates.registry import optimizer_model
from dcao.vectors import params_of


class DCAO(Optimizer):
    """A torch optimizer that wraps another one and keeps its step size where stability theory says it should be.

    Three ways to use it:

    - ``optimizer.minimize(loss_fn)``: ``loss_fn`` returns the scalar loss and never calls backward. Zeroes the
      gradients, runs backward, probes when due, steps.
    - ``optimizer.step(closure)``: torch's contract; the closure zeroes the gradients, calls backward, returns the loss.
    - ``optimizer.step()``, and ``optimizer.probe(loss_fn)`` whenever you like: for GradScaler, gradient accumulation,
      and trainers that own the loop.

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
        target: Largest s that the default policy allows (:func:`dcao.policies.ceiling` says why it is 8).
        total_steps: Training steps of the run, where they are known: the default policy then brings lr to 0 over the
            last 30 % of them, which is worth as much as a schedule. Else see :func:`dcao.polynomial_average`.
        every: Steps between probes, or a schedule ``(step, cost) -> bool`` (:mod:`dcao.schedules`). Default:
            :func:`dcao.schedules.usual`; never with ``policies.fixed()``.
        overhead: Instead of ``every``: probe as often as this share of all gradient evaluations allows; it does
            not settle.
        policy: Decides on hyperparameters. Default: :func:`dcao.policies.ceiling`, which starts small whatever lr is
            given; momentum and weight decay stay. ``policies.fixed()`` changes nothing.
        recorder: Takes a :class:`StepRecord` a probe.
        k: Eigenpairs of a spectrum. The measures ``"hessian"`` and ``"preconditioned"`` follow the largest alone.
        num_lanczos_steps: Products of a Lanczos run at most, and then each run for the largest of the Hessian is for
            all k pairs; default :func:`dcao.lanczos`'s.
        tolerance: Relative residual at which a Lanczos run stops. Default: 0.01 for a spectrum, 0.05 to follow the
            largest eigenvalue from probe to probe.
        spectrum_every: Steps between Lanczos runs that only inform: ``estimate.ritz_values``, and the preconditioned s
            in ``estimate.stability``. Default: never.
        smallest: Also measure the smallest eigenvalue whenever the largest of the Hessian is.
        hvp: ``"auto"``: one-sided differences along the step (the training batch's gradient is there already), and
            for Lanczos exact products with central differences where torch refuses them. Or ``"exact"``, ``"central"``,
            ``"forward"``.
        step_length: Length of finite differences in parameter space. Default: what suits rounding
            (:func:`dcao.operators.default_step_length`), so that s is the Hessian's. ``"step"``: along the step, the
            length of the step itself, so that s is the curvature which such a step meets, kinks included.
        probe_batch: What to probe. Default: the training batch. A ``loss_fn`` of your own, or a :class:`ProbeLoader`.
        groups: Indices of the param groups whose curvature is measured; default all.
        basis_dtype: Dtype of the Lanczos basis, for example ``torch.bfloat16`` for a large model; default the vectors'.
        basis_device: Device of the Lanczos basis, for example ``"cpu"``; default the parameters'.
        momentum_aware: Take the measure ``"hessian"`` relative to ``2 (1 + momentum) / lr``.
        settle: Before the first update probe until the lr rule no longer cuts (60 probes at most), in the first 200
            steps at every one while it is at its clip, and after an s above 10 at the next. Policies that gain nothing
            from it (``settles = False``, as :func:`dcao.policies.ceiling` has it) never do.
        guard: Skip a step whose loss or gradients are not finite, and halve the lr (3 times in a row at most, and not
            with ``fixed``); skip one whose gradient is 100 times longer than any of the last 50, or whose loss is far
            above all of them and the first. Default: on, unless the policy is ``fixed``. It waits for the device once a
            step.
        snapshot_every: Steps between copies in memory of parameters, buffers and optimizer state, to which a run goes
            back after 3 skipped steps in a row, with a smaller lr. Default: 25 where the guard is on. None: no copies.
        governor: Under a scheduler, never exceed its lr.
        compensate: When momentum changes, hold the length of the step (lr / (1 - momentum), bias corrections).
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
        target: float = TARGET,
        total_steps: int | None = None,
        every: int | Schedule | None = None,
        overhead: float | None = None,
        policy: Policy | None = None,
        recorder: Recorder | None = None,
        k: int = 5,
        num_lanczos_steps: int | None = None,
        tolerance: float | None = None,
        spectrum_every: int | None = None,
        smallest: bool = False,
        hvp: HvpKind = "auto",
        step_length: float | Literal["step"] | None = None,
        probe_batch: LossFn | ProbeLoader | None = None,
        groups: tuple[int, ...] | None = None,
        basis_dtype: torch.dtype | None = None,
        basis_device: torch.device | str | None = None,
        momentum_aware: bool = False,
        settle: bool = True,
        guard: bool | None = None,
        snapshot_every: int | Literal["auto"] | None = "auto",
        governor: bool = True,
        compensate: bool = True,
        seed: int = 0,
    ) -> None:
        check_base(base, DCAO)
        check_settings(base, policy=policy, recorder=recorder, guard=guard, seed=seed)
        self.base = base
        super().__init__(base.param_groups, base.defaults)
        self._share_base_groups()
        self.policy = choose_policy(base, policy, target, total_steps)
        self._adapts = not isinstance(self.policy, Fixed)
        timing = choose_timing(
            every, overhead, spectrum_every, total_steps, adapts=self._adapts, settle=settle and settles(self.policy)
        )
        settings = ProbeSettings(
            measure=require_measure(measure),
            k=k,
            num_lanczos_steps=num_lanczos_steps,
            tolerance=tolerance,
            hvp=hvp,
            step_length=step_length,
            momentum_aware=momentum_aware,
            smallest=smallest,
            groups=groups,
            basis_dtype=basis_dtype,
            basis_device=basis_device,
        )
        probe = CurvatureProbe(base, settings, seed=seed)
        probes = self._adapts or timing.schedule is not None or timing.spectrum is not None
        model = find_model(base, needed=probes and measure != "hessian")
        self.controller = Controller(self.policy, base, model, governor=governor, compensate=compensate)
        self.loop = ProbeLoop(
            probe, self.controller, timing, probe_batch=check_probe_batch(probe_batch), recorder=recorder
        )
        self.guard = Guard(base, enabled=self._adapts if guard is None else guard, snapshot_every=snapshot_every)
        self._training_batch: TrainingBatch | None = None

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

        It knows no trust in an estimate, no anchor, no probe before its time and no compensation of momentum changes.
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
        now = Controller(policies.fixed(), base, optimizer_model(base)).hyperparameters()
        rules: list[Policy] = [policies.learning_rate(target, gamma_down=gamma_down, gamma_up=gamma_up, min_trust=0.0)]
        if now.momentum:
            rules.append(policies.momentum(alpha_beta, target=target, anchor=0.0, min_trust=0.0))
        if now.weight_decay:
            rules.append(policies.weight_decay(alpha_wd, target=target, anchor=0.0, min_trust=0.0))
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
            compensate=False,
            seed=seed,
        )

    # --- three ways in ----------------------------------------------------------------------------------------

    def minimize(self, loss_fn: LossFn) -> Tensor:
        """One training step on ``loss_fn``, which returns the scalar loss with its graph; the loss, detached."""
        require_callable(loss_fn)
        if isinstance(self.base, LBFGS):
            raise TypeError("LBFGS evaluates its loss several times a step: use step(closure), not minimize(loss_fn)")
        self.zero_grad()
        rng_state = self._before_loss()
        with torch.enable_grad():
            loss = evaluate_loss(loss_fn)
            _backward(loss)
        self._training_batch = TrainingBatch(loss=loss.detach(), rng_state=rng_state, loss_fn=loss_fn)
        try:
            self.step()
        finally:
            self._training_batch = None
        return loss.detach()

    def step(self, closure: Closure | None = None) -> Any:
        """One training step: with a closure by torch's contract, or on the gradients that are there."""
        if closure is not None and not callable(closure):
            raise TypeError(
                f"closure must be callable, got {type(closure).__name__}; after loss.backward() call step() without it"
            )
        self._sync()
        if closure is not None and self.controller.model is None:
            return self._pass_through(closure)
        loss, batch = None, self._training_batch
        if closure is not None:
            loss, batch = self._run_closure(closure)
        safe = self._is_safe(batch)
        if safe:
            self.loop.probe_if_due(batch)
            with self.controller.training_lrs():
                self.base.step()
        self.loop.finish_step(taken=safe)
        return loss

    def probe(self, loss_fn: LossFn, *, spectrum: bool = False) -> CurvatureEstimate:
        """Measure ``loss_fn`` now, act on it as the policy says, and return what was measured.

        Args:
            loss_fn: Returns the scalar loss with its graph. What it raises passes through, with the state restored.
            spectrum: Also run Lanczos for the top of the Hessian's spectrum.
        """
        require_callable(loss_fn)
        self._sync()
        return self.loop.probe_now(loss_fn, spectrum=spectrum)

    # --- what trains, and what it cost ------------------------------------------------------------------------

    @property
    def effective_lrs(self) -> list[float]:
        """The lr that the coming step uses, for each param group."""
        self._sync()
        return self.controller.effective_lrs()

    @property
    def num_steps(self) -> int:
        """Steps taken, those that the guard skipped included."""
        return self.loop.num_steps

    @property
    def num_skipped(self) -> int:
        """Steps that the guard has skipped."""
        return self.guard.num_skipped

    @property
    def num_restored(self) -> int:
        """Times that the guard has gone back to a snapshot."""
        return self.guard.num_restored

    @property
    def probe_cost(self) -> float:
        """Gradient evaluations that probes have cost, beyond one a training step."""
        return self.loop.cost

    @property
    def last_estimate(self) -> CurvatureEstimate | None:
        """What the last probe measured."""
        return self.loop.last_estimate

    @property
    def last_decision(self) -> Decision | None:
        """What was made of it, with the reason in words."""
        return self.loop.last_decision

    # --- torch's contract -------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """The base optimizer's."""
        self.base.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer, and so to this one."""
        if "controller" not in self.__dict__:
            super().add_param_group(param_group)  # called by Optimizer.__init__, before the groups are shared
            return
        self._sync()
        self.base.add_param_group(param_group)
        self.controller.sync()

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
        if not isinstance(state_dict, dict):
            raise TypeError(f"state_dict must be a dict, got {type(state_dict).__name__}")
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
        dropped = {"step", "_training_batch"}
        state = {key: value for key, value in self.__dict__.items() if key not in dropped and "hook" not in key}
        return {**state, "_training_batch": None}

    def _share_base_groups(self) -> None:
        self.param_groups, self.state = self.base.param_groups, self.base.state

    # --- helpers ----------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        """Notice what others have done to the groups; the base replaces its list when it is loaded by itself."""
        self._share_base_groups()
        self.controller.sync()

    def _before_loss(self) -> RngState | None:
        """The random streams that a due probe has to start from; the guard sees the buffers while they are good."""
        self.guard.before_loss(self._modules())
        return capture_rng(params_of(self.base)) if self.loop.is_due() else None

    def _modules(self) -> list[nn.Module]:
        return self.loop.probe.modules() if self.guard.enabled else []

    def _run_closure(self, closure: Closure) -> tuple[Any, TrainingBatch]:
        rng_state = self._before_loss()
        with torch.enable_grad():
            loss = closure()
        require_gradient(params_of(self.base))
        value = loss.detach() if isinstance(loss, Tensor) else loss
        return loss, TrainingBatch(loss=value, rng_state=rng_state, closure=closure)

    def _pass_through(self, closure: Closure) -> Any:
        """An optimizer that calls its closure as it pleases (LBFGS) is left alone."""
        with self.controller.training_lrs():
            loss = self.base.step(closure)
        self.loop.finish_step(taken=False)
        return loss

    def _is_safe(self, batch: TrainingBatch | None) -> bool:
        """Whether the guard lets this step pass; if not, the lr has been answered and the skip recorded."""
        if not self.guard.enabled:
            return True
        seen = None if batch is None else batch.loss
        skip = self.guard.check(self._modules(), seen, self.loop.num_steps)
        if skip is None:
            return True
        before = self.controller.hyperparameters()
        if self._adapts:
            self.controller.scale_lr(skip.factor)
        loss = None if batch is None else batch.loss_value()
        self.loop.record_skip(before, skip.reason, loss)
        if skip.went_back and self._adapts:
            self.loop.report_blow_up(loss)
        return False

    def _own_state(self) -> dict[str, Any]:
        return {
            "loop": self.loop.state_dict(),
            "controller": self.controller.state_dict(),
            "guard": self.guard.state_dict(),
        }

    def _load_own_state(self, state: dict[str, Any] | None) -> None:
        self.controller.load_state_dict(None if state is None else state["controller"])
        if state is None:
            self.loop.start_afresh()
            self.guard.start_afresh()
        else:
            self.loop.load_state_dict(state["loop"])
            self.guard.load_state_dict(state["guard"])


def _backward(loss: Tensor) -> None:
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if "a second time" in str(error):
            raise ValueError(
                "loss_fn must not call backward(), which minimize does itself: return the loss alone, "
                "or pass a function that calls backward to step(closure)"
            ) from error
        raise
