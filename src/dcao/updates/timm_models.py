"""The records of timm's optimizers whose update is that of one of torch's. Nothing of timm is imported here.

``tests/integrations/test_timm.py`` compares them with the optimizers themselves. Others of timm's classes are refused,
as those of other libraries are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch.optim import Optimizer

from dcao.updates.dynamics import StepDynamics
from dcao.updates.model import Group, OptimizerModel, ParamState
from dcao.updates.torch_models import ADAM, NADAM, SGD

_ALTERED_BY = ("caution", "clipping_threshold", "corrected_weight_decay")
"""Options that make another update of it: entries of the step are left out, steps are cut, or the decay depends on the
lr at construction."""


def timm_model(kind: type[Optimizer]) -> OptimizerModel | None:
    """The record of a class of timm's, found by the class's name; None for any other class.

    Example:
        >>> import torch
        >>> timm_model(torch.optim.SGD) is None
        True
    """
    return TIMM_MODELS.get(f"{kind.__module__}.{kind.__qualname__}")


def altering_option(optimizer: Optimizer) -> str:
    """The option of one of timm's optimizers that makes another update of it; empty if none does."""
    groups = optimizer.param_groups
    return next((f"{name}={group[name]}" for name in _ALTERED_BY for group in groups if group.get(name)), "")


def _with_decoupled_decay(dynamics: StepDynamics, group: Group) -> StepDynamics:
    return replace(dynamics, l2_decay=0.0, decoupled_decay=float(group["lr"]) * float(group["weight_decay"]))


def _sgdw_dynamics(group: Group, state: ParamState) -> StepDynamics:
    return _with_decoupled_decay(SGD.dynamics(group, state), group)


def _adamw_dynamics(group: Group, state: ParamState) -> StepDynamics:
    return _with_decoupled_decay(ADAM.dynamics(group, state), group)


def _nadamw_dynamics(group: Group, state: ParamState) -> StepDynamics:
    """Adam's average, moved once more towards the newest gradient: Nesterov's step."""
    return replace(_adamw_dynamics(group, state), lookahead=float(group["betas"][0]))


def _as_torchs_nadam(group: Group, state: ParamState) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What timm calls otherwise in the group and in the state."""
    state = {**state, "mu_product": state["m_schedule"]} if state else state
    return {**group, "momentum_decay": group["schedule_decay"]}, state


def _nadam_dynamics(group: Group, state: ParamState) -> StepDynamics:
    return NADAM.dynamics(*_as_torchs_nadam(group, state))


def _nadam_correction(group: Group, state: ParamState, coming: bool) -> float:
    return NADAM.first_moment_correction(*_as_torchs_nadam(group, state), coming)


TIMM_MODELS: dict[str, OptimizerModel] = {
    "timm.optim.sgdw.SGDW": replace(SGD, dynamics=_sgdw_dynamics),
    "timm.optim.adamw.AdamWLegacy": replace(ADAM, dynamics=_adamw_dynamics),
    "timm.optim.nadamw.NAdamW": replace(ADAM, dynamics=_nadamw_dynamics),
    "timm.optim.nadam.NAdamLegacy": replace(NADAM, dynamics=_nadam_dynamics, first_moment_correction=_nadam_correction),
}
