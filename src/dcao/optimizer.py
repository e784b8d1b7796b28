"""DCAO: a torch optimizer around another one, which measures curvature and adapts hyperparameters while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor
from torch.optim import LBFGS, Optimizer

from dcao import checkpoints, options, schedules
from dcao.controller import Controller
from dcao.gradients.presence import Gradients
from dcao.guarding.guard import StepGuard
from dcao.guarding.settings import Guard
from dcao.isolation import RngState
from dcao.loop.answering import lets_pass
from dcao.loop.base_step import probe_and_step
from dcao.loop.passes import ComingPass, pass_of
from dcao.loop.probe_loop import ProbeLoop
from dcao.models import Model
from dcao.operators.base import LossFn
from dcao.policies.base import Decision, Policy
from dcao.printing import wrapping
from dcao.probing.batch import Closure
from dcao.probing.estimate import CurvatureEstimate, Measure
from dcao.probing.loader import ProbeLoader
from dcao.probing.micro_batches import mean_of_losses
from dcao.probing.probe import Probe
from dcao.probing.settings import ProbeSettings
from dcao.probing.training_pass import run_losses
from dcao.recorders.base import Recorder
from dcao.schedules import ScheduleLike
from dcao.telling.notices import Notices
from dcao.uncompiled import uncompiled
from dcao.wrapping import WrappingOptimizer, sets_up_state, with_own_hooks


class DCAO(WrappingOptimizer):
    """A torch optimizer that wraps another one and keeps its step size where stability theory says it should be.

    Three ways to use it:

    - ``optimizer.minimize(loss_fn)``: ``loss_fn`` returns the scalar loss and never calls backward. Zeroes the
      gradients, runs backward, probes when due, steps. Takes a list of micro-batches too, and clips if you ask.
    - ``optimizer.step(closure)``: torch's contract; the closure zeroes the gradients, calls backward, returns the loss.
    - ``optimizer.probe_if_due(loss_fn)``, and then ``optimizer.step()`` as always: for loops that call backward.

    Without a learning-rate scheduler ``param_groups[i]["lr"]`` is the lr that trains. With one it stays the scheduler's
    nominal lr, which gives the shape, and DCAO the scale: :attr:`effective_lrs` says what trains. A probe
    leaves no trace on the model, and what goes wrong in one is a reason in the log, never an exception; what goes wrong
    for long is a warning, once (``docs/warnings.md``).

    Args:
        base: The optimizer to wrap: SGD, Adam, AdamW, NAdam, RMSprop or Adagrad of torch, and timm's copies; others
            with :func:`dcao.register_optimizer`, or to be watched, ``policy=policies.Fixed(), measure="hessian"``.
        total_steps: Training steps of the run, if they are known: the default policy then brings lr to 0 over the last
            30 to 80 % of them, unless a scheduler lowers it. If they are not, see :func:`dcao.polynomial_average`.
        policy: Decides on hyperparameters. Default: :class:`dcao.policies.Ceiling`, which starts small whatever lr is
            given and leaves momentum and weight decay alone. ``policies.Fixed()`` changes nothing.
        measure: How s, the stability number with its edge at 2, is measured: ``"load"`` (mini-batch curvature along the
            step; 1 gradient evaluation a probe), ``"batch"``, ``"preconditioned"`` or ``"hessian"``; or a
            :class:`dcao.ProbeSettings`, which explains them and has more settings.
        every: Steps between probes, a schedule (:mod:`dcao.schedules`) or a function ``(step, cost) -> bool``. Default:
            :func:`dcao.schedules.usual`; never with ``policies.Fixed()``.
        probe_batch: What to probe. Default: the training batch. A ``loss_fn`` of your own, or a :class:`ProbeLoader`.
        spectrum_every: Steps between Lanczos runs that only inform: ``ritz_values``, and the preconditioned s in
            ``stability``, of :attr:`last_spectrum`. Training and decisions are the same without. Default: never.
        recorder: Takes a :class:`StepRecord` for each probe.
        guard: Skips a step whose loss or gradients are not finite or far outside the last ones, but not what has come
            three times before; goes back to a snapshot, with a smaller lr, when the run has blown up or its mean loss
            has turned up while lr rose. True, False or a :class:`dcao.Guard`. Default: on, unless the policy is
            ``Fixed``. It waits for the device once a step.
        seed: Seed of random start vectors; the global random streams are never used.

    Raises:
        TypeError, ValueError: On a wrong argument, with the rule, the value and the fix.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
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
        total_steps: int | None = None,
        policy: Policy | None = None,
        measure: Measure | ProbeSettings = "load",
        every: ScheduleLike | None = None,
        probe_batch: LossFn | ProbeLoader | None = None,
        spectrum_every: int | None = None,
        recorder: Recorder | None = None,
        guard: bool | Guard | None = None,
        seed: int = 0,
    ) -> None:
        options.check_base(base, DCAO)
        super().__init__(base)
        self.policy = options.choose_policy(base, policy, total_steps)
        settings = options.choose_settings(measure)
        schedule = schedules.as_schedule(every, schedules.usual(total_steps) if self.policy.adapts else None)
        spectrum = schedules.as_schedule(options.check_interval("spectrum_every", spectrum_every), None)
        model = Model(base)
        probes = schedule is not None or spectrum is not None
        # By lr * lambda_max alone an unknown optimizer can be watched, but not steered.
        needed = (policy is None and self.policy.adapts) or (probes and settings.measure != "hessian")
        record = options.find_record(base, needed=needed, probed=probes)
        options.refuse_exact(base, settings)
        probe = Probe(base, model, record, settings, seed=options.check_seed(seed))
        self.notices = Notices()
        self.gradients = Gradients(base, self.notices)
        self.controller = Controller(self.policy, base, record, self.notices)
        self.loop = ProbeLoop(
            probe,
            self.controller,
            schedule=schedule,
            spectrum=spectrum,
            is_demanded=every is not None,
            probe_batch=options.check_probe_batch(probe_batch),
            recorder=options.check_recorder(recorder),
        )
        self.guard = StepGuard(base, model, options.choose_guard(base, guard, default=self.policy.adapts))
        self.coming = ComingPass()
        self._kinds = checkpoints.kinds_of(self._own_state())

    # --- three ways in ----------------------------------------------------------------------------------------

    @uncompiled
    def minimize(self, loss_fn: LossFn | Sequence[LossFn], *, clip_norm: float | None = None) -> Tensor:
        """One training step; returns the loss, detached.

        A probe evaluates the function again, with the same batch, from the state before this call: draw the batch
        outside of it. See :func:`dcao.is_probing` for what is put back after a probe, and what cannot be.

        Args:
            loss_fn: Returns the scalar loss with its graph. Of a list, one for each micro-batch, the mean is trained,
                with one graph in memory at a time.
            clip_norm: Shorten the gradient of all parameters together to at most this, as torch's ``clip_grad_norm_``
                does. The guard judges the gradient before. Default: no clip.
        """
        loss_fns, clip_norm = options.as_losses(loss_fn), options.check_clip_norm(clip_norm)
        if isinstance(self.base, LBFGS):
            raise TypeError("LBFGS evaluates its loss several times a step: use step(closure), not minimize(loss_fn)")
        self.zero_grad()
        rng_state = self.before_loss(loss_fn)
        check = self.gradients.check_loss
        self.coming.batch = batch = run_losses(loss_fns, self.loop.probe, rng_state, check, clip_norm=clip_norm)
        try:
            self.step()
        finally:
            self.coming.forget()
        return cast(Tensor, batch.loss)

    @with_own_hooks
    def step(self, closure: Closure | None = None) -> Any:
        """One training step: with a closure by torch's contract, or on the gradients that are there."""
        options.check_closure(closure)
        if closure is None and not self.coming.is_known and sets_up_state(self.base):
            return self.base.step()
        self._sync()
        if closure is not None and not self.coming.is_made and self.controller.record is None:
            return self._pass_through(closure)
        loss, batch = pass_of(self, closure)
        has_gradient = self.gradients.begin_step()
        safe = not has_gradient or lets_pass(self.guard, self.loop, batch)
        if safe:
            probe_and_step(self.base, self.loop, batch, has_gradient=has_gradient)
        self.loop.finish_step(taken=safe and has_gradient)
        return loss

    @uncompiled
    def probe_if_due(self, loss_fn: LossFn | Sequence[LossFn]) -> CurvatureEstimate | None:
        """Probe ``loss_fn`` if :meth:`minimize` would do so at the coming step; what was measured, or None.

        Call it before every :meth:`step`, in a loop that calls backward itself. What goes wrong in the probe is a
        reason in the estimate, as in ``minimize``.

        Args:
            loss_fn: Returns the scalar loss of the coming step, unscaled; or a list of them, whose mean is probed.

        Raises:
            TypeError, ValueError: At the first probe, if ``loss_fn`` gives no loss that can be measured.
        """
        loss_fns = options.as_losses(loss_fn)
        self._sync()
        if not self.loop.is_due():
            return None
        self.loop.probe_by_hand(mean_of_losses(loss_fns, self.loop.probe))
        return self.last_estimate

    @uncompiled
    def probe(self, loss_fn: LossFn, *, spectrum: bool = False) -> CurvatureEstimate:
        """Measure ``loss_fn`` now, act on it as the policy says, and return what was measured.

        Args:
            loss_fn: Returns the scalar loss with its graph. What it raises passes through, with the state restored.
            spectrum: Also run Lanczos for the top of the Hessian's spectrum, which changes nothing of what is decided.
        """
        self._sync()
        return self.loop.probe_now(loss_fn, spectrum=spectrum, may_miss=self.gradients.were_seen)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({wrapping(self.base, self.policy, self.loop.probe.settings)})"

    # --- what trains, and what it cost ------------------------------------------------------------------------

    @property
    @uncompiled
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
        """What the last probe measured, be it one that decides or a spectrum that only informs."""
        return self.loop.last_estimate

    @property
    def last_spectrum(self) -> CurvatureEstimate | None:
        """The last estimate that has a spectrum."""
        return self.loop.last_spectrum

    @property
    def last_decision(self) -> Decision | None:
        """What the policy has answered last, with the reason in words."""
        return self.loop.last_decision

    # --- helpers ----------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        """Notice what others have done to the groups."""
        self.controller.sync()

    def before_loss(self, loss_fn: object) -> RngState | None:
        """Let the guard copy good buffers; if a probe is due, what its evaluations start from."""
        self.guard.before_loss()
        return self.loop.start_of(loss_fn)

    def _pass_through(self, closure: Closure) -> Any:
        """An optimizer that calls its closure as it pleases (LBFGS) is left alone."""
        self.coming.forget()
        if self.loop.is_due():
            self.loop.watch.note_passed_through(self.base)
        with self.controller.training_lrs():
            loss = self.base.step(closure)
        self.loop.finish_step(taken=False)
        return loss

    def _own_state(self) -> dict[str, Any]:
        loop, controller, guard = self.loop.state_dict(), self.controller.state_dict(), self.guard.state_dict()
        own = {"version": checkpoints.VERSION, "loop": loop, "controller": controller, "guard": guard}
        return {**own, "gradients_were_seen": self.gradients.were_seen}

    def _check_own_state(self, state: Any, *, num_groups: int) -> None:
        checkpoints.require_version(state)
        checkpoints.require_kinds(state, self._kinds)
        self.controller.check(state["controller"], num_groups=num_groups)
        checkpoints.require_loadable(self.loop.probe.memory, state, "loop", "probe")
        checkpoints.require_loadable(self.guard, state, "guard")

    def _load_own_state(self, state: dict[str, Any] | None) -> None:
        self.controller.load_state_dict(None if state is None else state["controller"])
        if state is None:
            self.loop.start_afresh()
            self.guard.start_afresh()
        else:
            self.loop.load_state_dict(state["loop"])
            self.guard.load_state_dict(state["guard"])
            self.gradients.were_seen = state["gradients_were_seen"]
