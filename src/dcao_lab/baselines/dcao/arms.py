"""DCAO around an optimizer of torch: as recommended, with other rules and measures, and the proposal to the letter."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import torch

import dcao
from dcao_lab.baselines.base import TOP_K, Baseline, BuildRequest, probing
from dcao_lab.baselines.dcao.averaging import AveragedDCAO
from dcao_lab.baselines.dcao.policies import make_policy
from dcao_lab.baselines.dcao.settings import (
    CEILING_DEFAULTS,
    finds_lr,
    known_settings,
    library_defaults,
    moved,
    words_to_numbers,
)
from dcao_lab.baselines.settings import Values, complete
from dcao_lab.baselines.space import Continuous, SearchSpace
from dcao_lab.errors import LabError
from dcao_lab.workloads import Problem

T = TypeVar("T")
PROBED = ("measure", "k")  # settings that say what is measured
PROBING = (*PROBED, "every")  # and when, whatever is decided on it
LITERAL_EVERY = 50  # T of the proposal, for runs of a few hundred steps
LITERAL_DEFAULTS: Values = {
    "every": LITERAL_EVERY,
    "k": TOP_K,
    **library_defaults(dcao.literal, "target", "gamma_down", "gamma_up", "alpha_beta", "alpha_wd"),
}
CEILING_SPACE = {
    "target": Continuous(low=2.0, high=32.0, default=CEILING_DEFAULTS["target"]),
    "max_relative_step": Continuous(low=0.03, high=0.3, default=CEILING_DEFAULTS["max_relative_step"]),
}
LITERAL_TARGET = Continuous(low=1.0, high=1.8, default=LITERAL_DEFAULTS["target"], is_log=False)  # the proposal's range


def steered(base: Baseline) -> Baseline:
    """The optimizer inside DCAO: as we recommend it where no setting is given.

    As hard to tune as its base: the two limits take the place of the lr, which has no effect, and of the momentum.
    """

    def make(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
        settings = words_to_numbers(request.settings, problem)
        known = words_to_numbers({**own, **known_settings(settings)}, problem)
        rules = {name: settings.get(name, known[name]) for name in ("rule", "rules")}
        values = complete(f"{title} with rule={rules['rule']}, rules={rules['rules']}", settings, known)
        optimizer = base.make(problem, replace(request, settings=_only(values, own)))
        options = _options(set(settings) - set(own) - {"average"}, values, request.num_steps)
        options = {**probing(request, **_only(values, PROBED)), **options}
        if values["average"]:
            return AveragedDCAO(optimizer, problem.model, values["average"], **options)
        return dcao.DCAO(optimizer, **options)

    title, own = f"DCAO({base.title})", base.defaults or {}
    return Baseline(
        base=base,
        name=f"dcao:{base.name}",
        title=title,
        make=make,
        defaults=None,
        space={**_known(base.space, "weight_decay"), **CEILING_SPACE},
        source="this repository: dcao.DCAO",
        probes=dcao.schedules.usual,  # what DCAO probes by; its own measure costs one evaluation a probe
        can_be_watched=True,
        ignores_lr=finds_lr,
    )


def literal(base: Baseline) -> Baseline:
    """The optimizer inside the proposal's algorithm to the letter: raw eta * lambda_max.

    As hard to tune as its base: the target takes the place of the momentum.
    """

    def make(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
        values = complete(title, words_to_numbers(request.settings, problem), {**own, **LITERAL_DEFAULTS})
        optimizer = base.make(problem, replace(request, settings=_only(values, own)))
        options = _only(values, LITERAL_DEFAULTS)
        return dcao.literal(optimizer, recorder=request.recorder, seed=request.seed, **options)

    title, own = f"literal DCAO({base.title})", base.defaults or {}
    return Baseline(
        base=base,
        name=f"dcao-literal:{base.name}",
        title=title,
        make=make,
        defaults=None,
        space={**_known(base.space, "lr", "weight_decay"), "target": LITERAL_TARGET},
        evaluations_per_step=1.2,
        source="the proposal, section 3.2; dcao.literal",
        can_be_watched=True,
    )


def watch(optimizer: torch.optim.Optimizer, measure: dcao.Measure, seed: int) -> dcao.DCAO:
    """A DCAO that measures what ``optimizer`` does by ``measure``, and changes nothing.

    Raises:
        LabError: The optimizer is not one of torch's own, or it has no stability threshold.
    """
    base = optimizer.base if isinstance(optimizer, dcao.DCAO) else optimizer
    if not _has_known_threshold(base):
        raise LabError(
            f"DCAO knows no stability threshold of {type(base).__name__}; choose sgd, adam, adamw or one of DCAO's arms"
        )
    return dcao.DCAO(base, policy=dcao.policies.Fixed(), measure=measure, seed=seed)


def _has_known_threshold(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it is an optimizer of torch that DCAO knows; a subclass may step otherwise, as K-FAC does."""
    if not type(optimizer).__module__.startswith("torch.optim."):
        return False
    try:
        dcao.stability_threshold(optimizer)
    except TypeError:
        return False
    return True


def _options(given: set[str], values: Values, num_steps: int) -> Values:
    """Arguments of DCAO for the settings that are ``given``, so that its own defaults decide wherever none is."""
    options: Values = {}
    if values["every"]:
        options["every"] = values["every"]
    if given <= set(PROBING):
        return {**options, "total_steps": num_steps}
    _refuse_idle_rules(values)
    options.setdefault("every", dcao.schedules.usual(num_steps))  # DCAO itself is not told the length beside a policy
    return {**options, "policy": make_policy(values, num_steps)}


def _refuse_idle_rules(values: Values) -> None:
    """A rule multiplies: from 0 it leads nowhere."""
    for rule, names in {"momentum": ("momentum", "beta1"), "weight_decay": ("weight_decay",)}.items():
        if rule in moved(values["rules"]) and not any(values.get(name) for name in names):
            raise LabError(f"the {rule} rule multiplies the {rule}, which is 0 here; set one, or leave the rule out")


def _only(values: Mapping[str, T], names: Iterable[str]) -> dict[str, T]:
    return {name: values[name] for name in names}


def _known(space: SearchSpace, *names: str) -> SearchSpace:
    """What ``space`` has of ``names``, in this order, which a quasi-random search depends on."""
    return _only(space, [name for name in names if name in space])
