"""The points at which an arm is tuned: the optimizer's defaults, then a Sobol sequence over its search space."""

import warnings

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState, create_trial

from dcao_lab.baselines import get_baseline
from dcao_lab.baselines.space import Choice, Continuous, Parameter, SearchSpace
from dcao_lab.config import RunConfig, Setting
from dcao_lab.study.config import Arm

MOST_WIDENINGS = 8  # of a sweep at each end: four decades at two lrs a decade
DIGITS = 4  # what a person can read; and the last bits of a power of ten are not the same on every machine

SearchPoint = dict[str, Setting]
"""Hyperparameters by name, the learning rate as ``lr`` among them."""


def search_space(arm: Arm) -> SearchSpace:
    """What is searched for an arm: its optimizer's space without what the arm fixes, in the order of the names.

    Of an arm with a sweep it is the learning rate alone, over all places to which its grid can grow.
    """
    if arm.sweep is not None:
        low, high = (arm.sweep.lr(index) for index in (-MOST_WIDENINGS, arm.sweep.num_lrs - 1 + MOST_WIDENINGS))
        return {"lr": Continuous(low=low, high=high, default=arm.sweep.middle)}
    fixed = dict(arm.settings)
    space = get_baseline(arm.optimizer).space
    return {name: space[name] for name in sorted(space) if name not in fixed}


def searched_point(arm: Arm, config: RunConfig) -> SearchPoint:
    """The hyperparameters that are searched for ``arm``, with their values in ``config``."""
    values = {**dict(config.settings), "lr": config.lr}
    return {name: values[name] for name in search_space(arm)}


def defaults(space: SearchSpace) -> SearchPoint:
    """The documented value of every hyperparameter in ``space``."""
    return {name: parameter.default for name, parameter in space.items()}


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """``space`` as Optuna has it."""
    return {name: _distribution(parameter) for name, parameter in space.items()}


def design(space: SearchSpace, num_trials: int, seed: int) -> list[SearchPoint]:
    """The points to try, in order; they depend on nothing but the arguments.

    They are drawn in a study of Optuna's that lives in memory alone, so that neither a kill nor another machine can
    move them. Sobol points are scrambled (Owen 1998): the plain sequence begins in a corner of the space.

    Example:
        >>> from dcao_lab.baselines.space import Continuous
        >>> space = {"lr": Continuous(low=1e-4, high=1.0, default=1e-3)}
        >>> [f"{point['lr']:.2g}" for point in design(space, 4, seed=0)]
        ['0.001', '0.25', '0.00016', '0.0046']
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line for every study and trial
    study = optuna.create_study(sampler=_sampler(seed))
    dimensions = distributions(space)
    # The sampler takes its dimensions from the first completed trial and draws others one by one, at random.
    study.add_trial(create_trial(params=defaults(space), distributions=dimensions, value=0.0))
    for _ in range(num_trials - 1):
        study.tell(study.ask(dimensions), state=TrialState.FAIL)
    return [_readable(trial.params, space) for trial in study.get_trials(deepcopy=False)][:num_trials]


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=seed)


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.is_log)


def _readable(params: SearchPoint, space: SearchSpace) -> SearchPoint:
    return {name: _rounded(params[name], parameter) for name, parameter in space.items()}


def _rounded(value: Setting, parameter: Parameter) -> Setting:
    if isinstance(parameter, Choice):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), parameter.low), parameter.high)
