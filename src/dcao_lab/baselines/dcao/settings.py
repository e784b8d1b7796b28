"""What an arm of DCAO may set: names, the library's own defaults, and the words that stand for numbers."""

import inspect
from collections.abc import Callable

import dcao
from dcao_lab.baselines.base import TOP_K
from dcao_lab.baselines.settings import Settings, Values
from dcao_lab.config import Setting
from dcao_lab.errors import LabError, look_up
from dcao_lab.workloads import Problem

HYPERPARAMETERS = ("lr", "momentum", "weight_decay")  # that a rule may move
CEILING, PROPOSAL = "ceiling", "proposal"
OWN_TIMES = 0  # ``every`` of an arm that probes when DCAO itself would
PROPOSAL_EVERY = 10
ONE_EPOCH = "epoch"  # ``every`` of a probe once a pass over the data
NO_AVERAGE = 0.0
GIVEN = "given"  # ``first_relative_step`` of an arm that starts from the lr it is given
BY_AGREEMENT = "agreement"  # ``decay`` of an arm whose share follows how far successive batches agree
AGREEMENT_NUMBER = -1.0  # and the number that stands for it
USED, IGNORED = "used", "ignored"  # ``agreement`` of an arm that is told how far batches agree, and of one that is not


def library_defaults(function: Callable[..., object], *names: str) -> Values:
    """The defaults that ``function`` has for its arguments ``names``.

    Example:
        >>> library_defaults(dcao.policies.LearningRate, "gamma_down", "gamma_up")
        {'gamma_down': 0.8, 'gamma_up': 1.1}
    """
    parameters = inspect.signature(function).parameters
    return {name: parameters[name].default for name in names}


CEILING_DEFAULTS = {
    **library_defaults(
        dcao.policies.Ceiling,
        "target",
        "max_relative_step",
        "first_relative_step",
        "growth",
        "gamma_down",
        "gamma_arrival",
        "watched",
        "window",
    ),
    "decay": BY_AGREEMENT,  # the library's None
}
BESIDE_CEILING: dict[str, Setting] = {"agreement": USED}  # what the lab adds to the library's rule
PROPOSAL_DEFAULTS: dict[str, Setting] = {
    **library_defaults(dcao.policies.LearningRate, "target", "gamma_down", "gamma_up"),
    **library_defaults(dcao.policies.Smoothed, "window"),
    "target_schedule": "constant",
}
LR_RULES: dict[str, dict[str, Setting]] = {CEILING: {**CEILING_DEFAULTS, **BESIDE_CEILING}, PROPOSAL: PROPOSAL_DEFAULTS}
GAINS: dict[str, dict[str, Setting]] = {
    "momentum": {"alpha_beta": library_defaults(dcao.policies.Momentum, "alpha")["alpha"]},
    "weight_decay": {"alpha_wd": library_defaults(dcao.policies.WeightDecay, "alpha")["alpha"]},
}
PROBE_DEFAULTS: dict[str, dict[str, Setting]] = {
    rule: {**library_defaults(dcao.ProbeSettings, "measure"), "k": TOP_K, "every": every}
    for rule, every in ((CEILING, OWN_TIMES), (PROPOSAL, PROPOSAL_EVERY))
}


def known_settings(settings: Settings) -> dict[str, Setting]:
    """Every setting of DCAO that has an effect beside ``settings``, with its default.

    ``rule`` says what moves the lr and when it is probed, ``rules`` which hyperparameters are moved at all; a setting
    of a rule that is not among them is not known.

    Raises:
        LabError: There is no such rule.

    Example:
        >>> sorted(set(known_settings({"rules": "lr+momentum", "rule": "proposal"})) - set(known_settings({})))
        ['alpha_beta', 'gamma_up', 'target_schedule']
    """
    rule, rules = str(settings.get("rule", CEILING)), settings.get("rules", "lr")
    of_rules = {"lr": look_up(LR_RULES, rule, "rule"), **GAINS}
    known: dict[str, Setting] = {"rule": CEILING, "rules": "lr", "average": NO_AVERAGE, **PROBE_DEFAULTS[rule]}
    for hyperparameter in moved(rules):
        known |= of_rules[hyperparameter]
    return known


def finds_lr(settings: Settings) -> bool:
    """Whether an arm of DCAO with these settings finds lr by itself, so that the lr that it is given has no effect.

    The default rule does, from a first step of its own, where no other rule is beside it: the first probe measures s at
    the lr that is given, which rules of momentum and weight decay act on. The proposal's rule multiplies that lr.

    Example:
        >>> finds_lr({}), finds_lr({"rule": "proposal"}), finds_lr({"rules": "lr+momentum"})
        (True, False, False)
    """
    found = {**known_settings(settings), **settings}
    is_given = found.get("first_relative_step") in (GIVEN, 0.0)
    return moved(found["rules"]) == ("lr",) and found["rule"] == CEILING and not is_given


def moved(rules: Setting) -> tuple[str, ...]:
    """The hyperparameters that ``rules`` names.

    Example:
        >>> moved("momentum+lr"), moved("none")
        (('lr', 'momentum'), ())
    """
    names = () if rules == "none" else tuple(str(rules).split("+"))
    if not set(names) <= set(HYPERPARAMETERS) or len(set(names)) < len(names):
        raise LabError(f"rules must be none, or some of {', '.join(HYPERPARAMETERS)} joined by +, got {rules!r}")
    return tuple(name for name in HYPERPARAMETERS if name in names)


def words_to_numbers(settings: Settings, problem: Problem) -> dict[str, Setting]:
    """``settings`` without words for numbers: an epoch in steps, 0 for a first step that is given, and so on."""
    numbers = dict(settings)
    if numbers.get("every") == ONE_EPOCH:
        numbers["every"] = max(1, round(problem.batches_per_epoch))
    if numbers.get("first_relative_step") == GIVEN:
        numbers["first_relative_step"] = 0.0
    if numbers.get("decay") == BY_AGREEMENT:
        numbers["decay"] = AGREEMENT_NUMBER
    return numbers
