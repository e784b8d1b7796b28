"""The proposal's algorithm to the letter, as a baseline."""

from __future__ import annotations

from torch.optim import Optimizer

from dcao.controller import Controller
from dcao.operators.hvp import HvpKind
from dcao.optimizer import DCAO
from dcao.policies.base import Policy
from dcao.policies.compose import Compose
from dcao.policies.fixed import Fixed
from dcao.policies.proposal import LearningRate, Momentum, WeightDecay
from dcao.probing.settings import ProbeSettings
from dcao.recorders.base import Recorder
from dcao.schedules import Schedule
from dcao.updates.registry import optimizer_model


def literal(
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
    It raises AdamW's lr without end, because ``lr * lambda_max`` is far under any target there. It is here as
    a baseline. Rules for hyperparameters that ``base`` does not use are left out.

    Args:
        base: The optimizer to wrap.
        every: T, the steps between probes.
        k: Lanczos steps, and eigenpairs.
        target: C_target, which the proposal wants between 1.0 and 1.8.
        gamma_down: As in :class:`dcao.policies.LearningRate`.
        gamma_up: As in :class:`dcao.policies.LearningRate`.
        alpha_beta: alpha of :class:`dcao.policies.Momentum`, without anchor.
        alpha_wd: alpha of :class:`dcao.policies.WeightDecay`, without anchor.
        recorder: As for :class:`dcao.DCAO`.
        hvp: As for :class:`dcao.ProbeSettings`.
        seed: As for :class:`dcao.DCAO`.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = literal(torch.optim.AdamW(model.parameters(), lr=1e-3), every=100, k=10)
    """
    now = Controller(Fixed(), base, optimizer_model(base)).hyperparameters()
    rules: list[Policy] = [LearningRate(target, gamma_down=gamma_down, gamma_up=gamma_up, min_trust=0.0, settle=False)]
    if now.momentum:
        rules.append(Momentum(alpha_beta, target=target, anchor=0.0, min_trust=0.0, compensate=False))
    if now.weight_decay:
        rules.append(WeightDecay(alpha_wd, target=target, anchor=0.0, min_trust=0.0))
    return DCAO(
        base,
        policy=Compose(*rules),
        measure=ProbeSettings("hessian", k=k, num_lanczos_steps=k, hvp=hvp),
        every=every,
        recorder=recorder,
        guard=False,
        seed=seed,
    )
