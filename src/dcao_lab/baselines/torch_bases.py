"""SGD with momentum, Adam and AdamW of torch."""

import torch

from dcao_lab.baselines.base import Baseline, BuildRequest
from dcao_lab.baselines.settings import Values
from dcao_lab.baselines.space import Continuous
from dcao_lab.norms import trainable
from dcao_lab.workloads import Problem


def _sgd(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
    return torch.optim.SGD(trainable(problem.model), lr=request.lr, **request.settings)


def _adam(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
    return torch.optim.Adam(trainable(problem.model), lr=request.lr, **with_betas(request.settings))


def _adamw(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
    return torch.optim.AdamW(trainable(problem.model), lr=request.lr, **with_betas(request.settings))


def with_betas(values: Values) -> Values:
    """The settings with ``beta1`` and ``beta2`` replaced by the pair ``betas`` that Adam and its relatives take.

    Example:
        >>> with_betas({"beta1": 0.9, "beta2": 0.99, "eps": 1e-8})
        {'eps': 1e-08, 'betas': (0.9, 0.99)}
    """
    rest = {name: value for name, value in values.items() if name not in ("beta1", "beta2")}
    return {**rest, "betas": (values["beta1"], values["beta2"])}


# Default settings are torch's, except for the momentum. Those of the search are of He et al. 2016 for ResNets.
SGD = Baseline(
    name="sgd",
    title="SGD",
    make=_sgd,
    defaults={"momentum": 0.9, "weight_decay": 0.0, "nesterov": False},
    space={
        "lr": Continuous(low=1e-4, high=1.0, default=0.1),
        "weight_decay": Continuous(low=1e-6, high=1e-2, default=1e-4),
        "momentum": Continuous(low=0.8, high=0.99, default=0.9, is_log=False),
    },
    source="Sutskever et al. 2013, defaults of He et al. 2016; torch.optim.SGD",
    can_be_watched=True,
)
ADAM = Baseline(
    name="adam",
    title="Adam",
    make=_adam,
    defaults={"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eps": 1e-8},
    space={
        "lr": Continuous(low=1e-5, high=1e-1, default=1e-3),
        "beta1": Continuous(low=0.8, high=0.99, default=0.9, is_log=False),
        "beta2": Continuous(low=0.9, high=0.999, default=0.999, is_log=False),
    },
    source="Kingma and Ba 2015; torch.optim.Adam",
    can_be_watched=True,
)
ADAMW = Baseline(
    name="adamw",
    title="AdamW",
    make=_adamw,
    defaults={"beta1": 0.9, "beta2": 0.999, "weight_decay": 1e-2, "eps": 1e-8},
    space={
        "lr": Continuous(low=1e-5, high=1e-1, default=1e-3),
        "weight_decay": Continuous(low=1e-4, high=1.0, default=1e-2),
        "beta1": Continuous(low=0.8, high=0.99, default=0.9, is_log=False),
    },
    source="Loshchilov and Hutter 2019; torch.optim.AdamW",
    can_be_watched=True,
)
