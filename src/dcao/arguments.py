"""What the caller of DCAO may say, checked at once, and what is chosen where nothing is said."""

from __future__ import annotations

import warnings

from torch.optim import LBFGS, Optimizer

from dcao import policies, schedules
from dcao.checks import require_whole
from dcao.operators.base import LossFn
from dcao.policies.base import Policy
from dcao.policies.ceiling import TARGET
from dcao.probing.loader import ProbeLoader
from dcao.schedules import Schedule, Timing
from dcao.updates.registry import OptimizerModel, optimizer_model


def check_base(base: Optimizer, wrapper: type[Optimizer]) -> None:
    """Refuse what cannot be wrapped."""
    if not isinstance(base, Optimizer):
        raise TypeError(f"base must be a torch.optim.Optimizer, got {type(base).__name__}")
    if isinstance(base, wrapper):
        raise TypeError(f"base must be a plain optimizer, got {wrapper.__name__}; wrap it once")
    if not all("lr" in group for group in base.param_groups):
        raise ValueError(
            f"base must have an lr in each param group, which {type(base).__name__} has not; DCAO scales it"
        )
    if not any(float(group["lr"]) > 0.0 for group in base.param_groups):
        raise ValueError(
            "lr must be positive in at least one param group, got 0 in all: DCAO scales the lr that it is given; "
            "if a scheduler has set it to 0, wrap the optimizer first and build the scheduler on the wrapper"
        )


def check_settings(base: Optimizer, *, policy: object, recorder: object, guard: bool | None, seed: object) -> None:
    """Refuse what has the wrong shape."""
    if policy is not None:
        _require_methods("policy", policy, ("init", "propose"), hint="call the factory, as in policies.fixed()")
    if recorder is not None:
        _require_methods("recorder", recorder, ("record",), hint="dcao.MemoryRecorder() is one")
    if guard and isinstance(base, LBFGS):
        raise ValueError("guard has no effect on LBFGS, which evaluates its closure by itself; leave guard out")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be a whole number, got {seed!r}")


def _require_methods(name: str, value: object, methods: tuple[str, ...], *, hint: str) -> None:
    rule = f"{name} must have {'a method ' if len(methods) == 1 else ''}{' and '.join(methods)}"
    if isinstance(value, type):
        raise TypeError(f"{rule}, got the class {value.__name__}; make one of it")
    if not all(callable(getattr(value, method, None)) for method in methods):
        raise TypeError(f"{rule}, got {type(value).__name__}; {hint}")


def choose_policy(base: Optimizer, policy: Policy | None, target: float, total_steps: int | None) -> Policy:
    """The caller's policy, or the default one."""
    if policy is not None:
        for name, is_set in (("target", target != TARGET), ("total_steps", total_steps is not None)):
            if is_set:
                warnings.warn(f"{name} has no effect beside policy; give it to the policy", UserWarning, stacklevel=4)
        return policy
    if isinstance(base, LBFGS):
        return policies.fixed()  # it chooses its own step: pass through
    return policies.ceiling(target, total_steps=total_steps)


def choose_timing(
    every: int | Schedule | None,
    overhead: float | None,
    spectrum_every: int | None,
    total_steps: int | None,
    *,
    adapts: bool,
    settle: bool,
) -> Timing:
    """When to probe."""
    if every is not None and overhead is not None:
        raise ValueError(f"give every or overhead, not both, got every={every!r} and overhead={overhead!r}")
    schedule: Schedule | None = schedules.usual(total_steps) if adapts else None
    if overhead is not None:
        schedule = schedules.overhead(overhead)
    elif every is not None:
        schedule = every if callable(every) else schedules.every(every)
    if spectrum_every is not None:
        require_whole("spectrum_every", spectrum_every, "step")
    return Timing(
        schedule=schedule,
        spectrum=None if spectrum_every is None else schedules.every(spectrum_every),
        settle=settle and adapts and overhead is None,  # settling probes at every step: more than a budget allows
        demanded=every is not None or overhead is not None or spectrum_every is not None,
    )


def find_model(base: Optimizer, *, needed: bool) -> OptimizerModel | None:
    """The record of the base's class, demanded if a stability number is going to be measured."""
    try:
        return optimizer_model(base)
    except TypeError:
        if needed:
            raise
        return None


def check_probe_batch(probe_batch: LossFn | ProbeLoader | None) -> LossFn | ProbeLoader | None:
    """``probe_batch``, refused if it can give no loss."""
    if probe_batch is None or isinstance(probe_batch, ProbeLoader) or callable(probe_batch):
        return probe_batch
    raise TypeError(
        f"probe_batch must be a loss_fn or a dcao.ProbeLoader, got {type(probe_batch).__name__}; "
        "wrap a DataLoader as ProbeLoader(loader, batch_loss)"
    )


def require_callable(loss_fn: object) -> None:
    """Refuse a loss where a function that returns it is wanted."""
    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be callable, got {type(loss_fn).__name__}; pass lambda: loss, not the loss")
