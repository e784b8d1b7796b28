"""The policy that the settings of an arm of DCAO name."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import dcao
from dcao_lab.baselines.dcao.settings import (
    AGREEMENT_NUMBER,
    BY_AGREEMENT,
    CEILING_DEFAULTS,
    IGNORED,
    PROPOSAL,
    USED,
    moved,
)
from dcao_lab.baselines.dcao.target_schedule import ScheduledTarget
from dcao_lab.baselines.settings import Values
from dcao_lab.errors import look_up

State = dcao.policies.State


class CeilingWithoutAgreement(dcao.policies.Ceiling):
    """The default rule where it is not told how far successive batches agree.

    The decay takes its shortest share, lr rises again in noise too, and the range test has the loss as its only
    witness.
    """

    def propose(self, observation: dcao.Observation, state: State) -> tuple[dcao.Decision, State]:
        """The default's decision."""
        return super().propose(replace(observation, agreement=None), state)

    def watches_agreement(self, step: int, state: State) -> bool:
        """Never."""
        return False


CEILINGS: dict[str, type[dcao.policies.Ceiling]] = {USED: dcao.policies.Ceiling, IGNORED: CeilingWithoutAgreement}


def make_policy(values: Values, num_steps: int) -> dcao.Policy:
    """The rules that ``values`` name; what no rule is named for stays.

    The rule of the lr comes last: the median that the others are fed with is of s per unit of the lr that s was
    measured at.

    Example:
        >>> make_policy({"rules": "none"}, num_steps=100)
        Fixed()
    """
    make: dict[str, Callable[[], dcao.Policy]] = {
        "momentum": lambda: dcao.policies.Smoothed(dcao.policies.Momentum(values["alpha_beta"])),
        "weight_decay": lambda: dcao.policies.Smoothed(dcao.policies.WeightDecay(values["alpha_wd"])),
        "lr": lambda: (_proposal if values["rule"] == PROPOSAL else _ceiling)(values, num_steps),
    }
    names = moved(values["rules"])
    policies = [make[name]() for name in make if name in names]
    if not policies:
        return dcao.policies.Fixed()
    return policies[0] if len(policies) == 1 else dcao.policies.Compose(*policies)


def _ceiling(values: Values, num_steps: int) -> dcao.Policy:
    arguments = {name: values[name] for name in CEILING_DEFAULTS}
    arguments["first_relative_step"] = values["first_relative_step"] or None  # 0 stands for the lr that is given
    if values["decay"] in (BY_AGREEMENT, AGREEMENT_NUMBER):
        arguments["decay"] = None
    rule = look_up(CEILINGS, str(values["agreement"]), "agreement")
    return rule(total_steps=num_steps, **arguments)


def _proposal(values: Values, num_steps: int) -> dcao.Policy:
    make: Callable[[float], dcao.Policy] = partial(
        dcao.policies.LearningRate, gamma_down=values["gamma_down"], gamma_up=values["gamma_up"]
    )
    schedule, target = values["target_schedule"], values["target"]
    rule = make(target) if schedule == "constant" else ScheduledTarget(make, target, schedule, num_steps)
    return dcao.policies.Smoothed(rule, window=values["window"])
