"""The arguments of DCAO: checked at once, and the defaults for those that are not given."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import LBFGS, Optimizer

from dcao.checks import require_instance, require_number, require_whole
from dcao.guarding.settings import Guard
from dcao.layout import refuse_unknown_parts
from dcao.operators.base import LossFn, not_callable
from dcao.policies.base import Policy
from dcao.policies.ceiling import Ceiling
from dcao.policies.fixed import Fixed
from dcao.probing.estimate import Measure
from dcao.probing.loader import ProbeLoader
from dcao.probing.settings import ProbeSettings
from dcao.recorders.base import Recorder
from dcao.telling.notices import warn
from dcao.updates.registry import OptimizerModel, optimizer_model, refuse_maximize
from dcao.vectors import params_of


def check_base(base: Optimizer, wrapper: type[Optimizer]) -> None:
    """Raise an error if ``base`` cannot be wrapped."""
    if not isinstance(base, Optimizer):
        got = f"the class {base.__name__}" if isinstance(base, type) else type(base).__name__
        raise TypeError(
            f"base must be a torch.optim.Optimizer, got {got}; wrap one that is built, as in "
            "DCAO(torch.optim.AdamW(model.parameters(), lr=1e-3))"
        )
    if isinstance(base, wrapper):
        raise TypeError(f"base must be a plain optimizer, got {wrapper.__name__}; wrap it once")
    if not all("lr" in group for group in base.param_groups):
        raise ValueError(
            f"base must have an lr in each param group, and {type(base).__name__} does not; DCAO scales it"
        )
    if not any(float(group["lr"]) > 0.0 or float(group.get("initial_lr", 0.0)) > 0.0 for group in base.param_groups):
        raise ValueError(
            "lr must be positive in at least one param group, got 0 in all: DCAO scales the lr that it is given; "
            "build the optimizer with any lr above 0, such as 1e-3"
        )


def check_recorder(recorder: Recorder | None) -> Recorder | None:
    """Return ``recorder``; a TypeError if it cannot record."""
    rule = "recorder must have a method record"
    if isinstance(recorder, type):
        raise TypeError(f"{rule}, got the class {recorder.__name__}; call it, as in {recorder.__name__}()")
    if recorder is not None and not callable(getattr(recorder, "record", None)):
        raise TypeError(f"{rule}, got {type(recorder).__name__}; dcao.MemoryRecorder() is one")
    return recorder


def check_seed(seed: int) -> int:
    """Return ``seed``; a TypeError if it is not a whole number."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be a whole number, got {seed!r}")
    return seed


def check_probe_batch(probe_batch: LossFn | ProbeLoader | None) -> LossFn | ProbeLoader | None:
    """Return ``probe_batch``; a TypeError if it cannot give a loss."""
    if probe_batch is None or isinstance(probe_batch, ProbeLoader) or callable(probe_batch):
        return probe_batch
    raise TypeError(
        f"probe_batch must be a loss_fn or a dcao.ProbeLoader, got {type(probe_batch).__name__}; "
        "wrap a DataLoader as ProbeLoader(loader, batch_loss)"
    )


def as_losses(loss_fn: LossFn | Sequence[LossFn]) -> Sequence[LossFn]:
    """The loss functions of a step's micro-batches, of which there may be one; an error if they are not functions."""
    if not isinstance(loss_fn, (list, tuple)):
        if not callable(loss_fn):
            raise not_callable(loss_fn)
        return [loss_fn]
    if not loss_fn:
        raise ValueError("loss_fn must hold at least one loss function, got an empty list; the mean of none is no loss")
    for index, each in enumerate(loss_fn):
        if not callable(each):
            raise not_callable(each, name=f"loss_fn[{index}]")
    return loss_fn


def check_clip_norm(clip_norm: float | None) -> float | None:
    """Return ``clip_norm``; an error if no gradient can be clipped to it."""
    if clip_norm is not None:
        require_number("clip_norm", clip_norm)
        if not 0.0 < clip_norm < math.inf:  # "not a < b" also catches nan
            raise ValueError(f"clip_norm must be positive and finite, got {clip_norm}; leave it out to clip nothing")
    return clip_norm


def check_closure(closure: object) -> None:
    """Raise a TypeError unless ``closure`` is one, or None."""
    if closure is not None and not callable(closure):
        raise TypeError(
            f"closure must be callable, got {type(closure).__name__}; after loss.backward() call step() without it"
        )


def check_interval(name: str, interval: int | None) -> int | None:
    """Return a number of steps; an error if it is not a positive whole number."""
    if interval is not None:
        require_whole(name, interval, "step")
    return interval


def choose_policy(base: Optimizer, policy: Policy | None, total_steps: int | None) -> Policy:
    """The caller's policy, or the default one."""
    if policy is None:
        return Fixed() if isinstance(base, LBFGS) else Ceiling(total_steps=total_steps)  # LBFGS chooses its own step
    require_instance("policy", policy, Policy, fix="policies.Fixed() is one")
    if total_steps is not None:
        warn("total_steps has no effect beside policy; give it to the policy")
    return policy


def choose_settings(measure: Measure | ProbeSettings) -> ProbeSettings:
    """The probe's settings, from the name of a measure or as they were given."""
    return measure if isinstance(measure, ProbeSettings) else ProbeSettings(measure)


def choose_guard(base: Optimizer, guard: bool | Guard | None, *, default: bool) -> Guard | None:
    """The guard's settings; None if it is off."""
    if guard is not None and not isinstance(guard, bool):
        require_instance("guard", guard, Guard, fix="dcao.Guard(snapshot_every=50) is one; or pass True or False")
    if guard:
        refuse_unknown_parts(params_of(base))
    if guard and isinstance(base, LBFGS):
        raise ValueError("guard has no effect on LBFGS, which evaluates its closure by itself; leave guard out")
    if isinstance(guard, Guard):
        return guard
    return Guard() if (default if guard is None else guard) else None


def find_record(base: Optimizer, *, needed: bool, probed: bool) -> OptimizerModel | None:
    """The description of the base's class; None for an optimizer that is only passed through and has none.

    Args:
        base: The optimizer to wrap.
        needed: Whether a probe or the policy cannot do without.
        probed: Whether probes are scheduled.

    Raises:
        TypeError: It is needed, and the class is not known.
        ValueError: The optimizer is to be probed, and climbs (``maximize=True``) or never forgets (a momentum of 1).
    """
    if needed or probed:
        refuse_maximize(base)
    try:
        record = optimizer_model(base)
    except (TypeError, ValueError):
        if needed:
            raise
        return None
    if needed:
        for group in base.param_groups:
            record.dynamics(group, {})  # raises the ValueError of StepDynamics
    return record
