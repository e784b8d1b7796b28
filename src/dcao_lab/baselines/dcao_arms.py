"""DCAO around an optimizer of torch: as recommended, with other rules and measures, and the proposal to the letter."""

from collections.abc import Callable
from functools import partial

import torch

import dcao
from dcao_lab.baselines.base import Baseline, Build, BuildRequest
from dcao_lab.baselines.settings import complete
from dcao_lab.baselines.space import Continuous
from dcao_lab.baselines.target_schedule import scheduled_target
from dcao_lab.baselines.torch_bases import TOP_K, WATCH_EVERY, TorchBase, probing
from dcao_lab.config import Setting
from dcao_lab.errors import LabError
from dcao_lab.workloads import Problem

RULES = ("lr", "momentum", "weight_decay")
LITERAL_EVERY = 50  # T of the proposal, for runs of a few hundred steps
ONE_EPOCH = "epoch"  # ``every`` of a probe once a pass over the data

POLICY_DEFAULTS: dict[str, Setting] = {
    "rules": "lr",
    "target": 1.5,
    "gamma_down": 0.8,
    "gamma_up": 1.1,
    "alpha_beta": 0.05,
    "alpha_wd": 0.05,
    "target_schedule": "constant",
}
PROBE_DEFAULTS: dict[str, Setting] = {"measure": "load", "every": WATCH_EVERY, "k": TOP_K}
LITERAL_DEFAULTS: dict[str, Setting] = {
    "every": LITERAL_EVERY,
    "k": TOP_K,
    **{name: POLICY_DEFAULTS[name] for name in ("target", "gamma_down", "gamma_up", "alpha_beta", "alpha_wd")},
}
TARGET = Continuous(low=0.5, high=1.9, default=1.5, is_log=False)
LITERAL_TARGET = Continuous(low=1.0, high=1.8, default=1.5, is_log=False)  # the proposal's range


def steered(base: TorchBase) -> Baseline:
    """The optimizer inside DCAO: as we recommend it where no setting is given."""

    def build(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
        settings = _in_steps(request.settings, problem)
        values = complete(title, settings, {**base.defaults, **POLICY_DEFAULTS, **PROBE_DEFAULTS})
        optimizer = base.make(problem.model.parameters(), request.lr, _only(values, base.defaults))
        return dcao.DCAO(optimizer, **{**probing(request), **_options(request, values)})

    title = f"DCAO({base.title})"
    return _baseline(base, "dcao", title, build, target=TARGET, source="this repository: dcao.DCAO")


def literal(base: TorchBase) -> Baseline:
    """The optimizer inside the proposal's algorithm to the letter: raw eta * lambda_max."""

    def build(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
        values = complete(title, _in_steps(request.settings, problem), {**base.defaults, **LITERAL_DEFAULTS})
        optimizer = base.make(problem.model.parameters(), request.lr, _only(values, base.defaults))
        options = _only(values, LITERAL_DEFAULTS)
        return dcao.DCAO.literal(optimizer, recorder=request.recorder, seed=request.seed, **options)

    title = f"literal DCAO({base.title})"
    source = "the proposal, section 3.2; dcao.DCAO.literal"
    return _baseline(base, "dcao-literal", title, build, target=LITERAL_TARGET, source=source)


def watch(optimizer: torch.optim.Optimizer, measure: str, seed: int) -> dcao.DCAO:
    """A DCAO that measures what ``optimizer`` does by ``measure``, and changes nothing."""
    base = optimizer.base if isinstance(optimizer, dcao.DCAO) else optimizer
    return dcao.DCAO(base, policy=dcao.policies.fixed(), measure=measure, seed=seed)


def make_policy(values: dict[str, Setting], num_steps: int) -> dcao.Policy:
    """The rules that ``values`` name, all fed with the median of three probes; what no rule is named for stays.

    ``target_schedule`` moves the target of the lr rule; the other two rules rest at ``target`` throughout.

    Example:
        >>> make_policy({**POLICY_DEFAULTS, "rules": "none"}, num_steps=100)
        Fixed()
    """
    rules = _rules(values["rules"])
    if not rules:
        return dcao.policies.fixed()
    make: dict[str, Callable[[], dcao.Policy]] = {
        "lr": lambda: _lr_rule(values, num_steps),
        "momentum": lambda: dcao.policies.momentum(values["alpha_beta"], target=values["target"]),
        "weight_decay": lambda: dcao.policies.weight_decay(values["alpha_wd"], target=values["target"]),
    }
    policies = [make[rule]() for rule in rules]
    return dcao.policies.smoothed(policies[0] if len(policies) == 1 else dcao.policies.compose(*policies))


def _lr_rule(values: dict[str, Setting], num_steps: int) -> dcao.Policy:
    make: Callable[[float], dcao.Policy] = partial(
        dcao.policies.learning_rate, gamma_down=values["gamma_down"], gamma_up=values["gamma_up"]
    )
    if values["target_schedule"] == "constant":
        return make(values["target"])
    return scheduled_target(make, values["target"], values["target_schedule"], num_steps)


def _rules(text: Setting) -> tuple[str, ...]:
    names = () if text == "none" else tuple(str(text).split("+"))
    if not set(names) <= set(RULES) or len(set(names)) < len(names):
        raise LabError(f"rules must be none, or some of {', '.join(RULES)} joined by +, got {text!r}")
    return tuple(rule for rule in RULES if rule in names)


def _options(request: BuildRequest, values: dict[str, Setting]) -> dict[str, object]:
    """What differs from DCAO's own defaults, so that these decide wherever nothing is set."""
    options: dict[str, object] = {name: values[name] for name in ("measure", "k") if name in request.settings}
    is_default_policy = not set(request.settings) & set(POLICY_DEFAULTS)
    if not is_default_policy:
        _refuse_idle_rules(values)
        options["policy"] = make_policy(values, request.num_steps)
    if "every" in request.settings or values["rules"] == "none":  # a fixed policy would not probe unless told when
        options["every"] = values["every"]
    return options


def _refuse_idle_rules(values: dict[str, Setting]) -> None:
    """A rule multiplies: from 0 it leads nowhere."""
    for rule, names in {"momentum": ("momentum", "beta1"), "weight_decay": ("weight_decay",)}.items():
        if rule in _rules(values["rules"]) and not any(values.get(name) for name in names):
            raise LabError(f"the {rule} rule multiplies the {rule}, which is 0 here; set one, or leave the rule out")


def _in_steps(settings: dict[str, Setting], problem: Problem) -> dict[str, Setting]:
    """``every`` as a number of steps, where it is one epoch."""
    if settings.get("every") != ONE_EPOCH:
        return settings
    return {**settings, "every": max(1, round(problem.batches_per_epoch))}


def _only(values: dict[str, Setting], names: dict[str, Setting]) -> dict[str, Setting]:
    return {name: values[name] for name in names}


def _baseline(base: TorchBase, prefix: str, title: str, build: Build, *, target: Continuous, source: str) -> Baseline:
    """As hard to tune as its base: the target takes the place of the momentum in the search space."""
    own = {name: base.space[name] for name in ("lr", "weight_decay")}
    return Baseline(
        name=f"{prefix}:{base.name}",
        title=title,
        family=base.name,
        is_wrapped=True,
        build=build,
        space={**own, "target": target},
        evaluations_per_step=1.2,
        source=source,
    )
