"""The momentum of param groups: read, and changed without a jump in the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer

from dcao.updates.registry import OptimizerModel

Group = dict[str, Any]


def momentum_of(record: OptimizerModel | None, group: Group) -> float | None:
    """The momentum of a group; None if the optimizer has none that is known."""
    if record is None or record.momentum_key is None:
        return None
    value = group[record.momentum_key]
    return float(value[0] if record.momentum_key == "betas" else value)


def write_momentum(
    optimizer: Optimizer,
    record: OptimizerModel,
    momenta: Sequence[float | None],
    wanted: float,
    now: float,
    *,
    compensate: bool,
) -> list[float]:
    """Change momentum in the groups that have ``now``; the factor on each group's lr that keeps its step as long."""
    factors = [1.0] * len(momenta)
    for index, group in enumerate(optimizer.param_groups):
        if momenta[index] != now:
            continue
        if record.momentum_key == "betas":
            group["betas"] = (wanted, *group["betas"][1:])
        else:
            group["momentum"] = wanted
            if compensate:
                factors[index] = (1.0 - wanted) / (1.0 - now)  # the buffer sums: hold lr / (1 - momentum)
        if compensate and record.rescale_momentum is not None:
            for p in group["params"]:
                if optimizer.state.get(p):
                    record.rescale_momentum(group, optimizer.state[p], now, wanted)
    return factors
