"""What ``repr`` says of an optimizer: what it wraps, what decides and what is measured, without what is as usual."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch.optim import Optimizer

from dcao.policies.base import Policy
from dcao.probing.settings import ProbeSettings


def wrapping(base: Optimizer, policy: Policy, settings: ProbeSettings) -> str:
    """The arguments of a DCAO in one line.

    Example:
        >>> import torch
        >>> from dcao import policies
        >>> base = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], lr=0.003)
        >>> wrapping(base, policies.Fixed(), ProbeSettings("batch"))
        "AdamW(lr=0.003), policy=Fixed(), measure='batch'"
    """
    measure = settings.measure if settings == ProbeSettings(settings.measure) else settings
    return f"{name_with_lr(base)}, policy={brief(policy)}, measure={brief(measure)}"


def brief(value: Any) -> str:
    """``repr`` of a value, in which dataclasses have only the fields that are not at their defaults.

    Example:
        >>> from dcao import ProbeSettings, policies
        >>> brief(policies.Ceiling(total_steps=200)), brief(ProbeSettings("hessian", k=3))
        ('Ceiling(total_steps=200)', "ProbeSettings(measure='hessian', k=3)")
    """
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(brief, value))}]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        defaults = {field.name: field.default for field in dataclasses.fields(value)}
        words = [f"{name}={brief(given)}" for name, given in changed.items() if given != defaults[name]]
        return f"{type(value).__name__}({', '.join(words)})"
    printed = repr(value)
    return type(value).__name__ if printed == object.__repr__(value) else printed


def name_with_lr(optimizer: Optimizer) -> str:
    """The class of a bare optimizer and the lr of its param groups.

    Example:
        >>> import torch
        >>> weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
        >>> name_with_lr(torch.optim.SGD(weights, lr=0.1))
        'SGD(lr=0.1)'
        >>> name_with_lr(torch.optim.SGD([{"params": [w], "lr": lr} for w, lr in zip(weights, (0.1, 0.01))]))
        'SGD(lr=0.01 to 0.1 in 2 groups)'
    """
    lrs = [float(group["lr"]) for group in optimizer.param_groups]
    words = f"{min(lrs):g}" if min(lrs) == max(lrs) else f"{min(lrs):g} to {max(lrs):g}"
    groups = f" in {len(lrs)} groups" if len(lrs) > 1 else ""
    return f"{type(optimizer).__name__}(lr={words}{groups})"
