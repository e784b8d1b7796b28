"""AdaHessian and Sophia-H of ``pytorch_optimizer``, with our estimates of the Hessian's diagonal."""

import torch

from dcao_lab.baselines.base import Baseline, BuildRequest
from dcao_lab.baselines.curvature import HESSIAN_PRODUCT_COST
from dcao_lab.baselines.hutchinson import HutchinsonOptimizer, gaussian, over_kernels, rademacher
from dcao_lab.baselines.space import Continuous
from dcao_lab.baselines.third_party import pytorch_optimizer
from dcao_lab.baselines.torch_bases import with_betas
from dcao_lab.errors import LabError
from dcao_lab.norms import trainable
from dcao_lab.workloads import Problem

SOPHIA_EVERY = 10  # as in the paper


def _adahessian(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
    inner = pytorch_optimizer().AdaHessian(trainable(problem.model), lr=request.lr, **with_betas(request.settings))
    every = _period(request)
    return HutchinsonOptimizer(inner, draw=rademacher, every=every, seed=request.seed, average=over_kernels)


def _sophia(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
    every = _period(request)
    inner = pytorch_optimizer().SophiaH(trainable(problem.model), lr=request.lr, **with_betas(request.settings))
    return HutchinsonOptimizer(inner, draw=gaussian, every=every, seed=request.seed)


def _period(request: BuildRequest) -> int:
    """Steps between two estimates of the Hessian's diagonal."""
    every = int(request.settings["update_period"])
    if every < 1:
        raise LabError(f"update_period must be at least 1 step, got {every}")
    return every


ADAHESSIAN = Baseline(
    name="adahessian",
    title="AdaHessian",
    make=_adahessian,
    defaults={
        "beta1": 0.9,
        "beta2": 0.999,
        "weight_decay": 0.0,
        "hessian_power": 1.0,
        "eps": 1e-4,  # as in the authors' code; the package's 1e-16 diverges if a sample of the diagonal is near zero
        "update_period": 1,
    },
    space={
        "lr": Continuous(low=1e-4, high=1.0, default=0.1),
        "hessian_power": Continuous(low=0.5, high=1.0, default=1.0, is_log=False),
        "weight_decay": Continuous(low=1e-6, high=1e-2, default=1e-4),
    },
    source="Yao et al. 2021; pytorch_optimizer.AdaHessian, with the authors' eps and averaging over kernels",
    evaluations_per_step=1.0 + HESSIAN_PRODUCT_COST,
)
SOPHIA = Baseline(
    name="sophia",
    title="Sophia-H",
    make=_sophia,
    defaults={
        "beta1": 0.96,
        "beta2": 0.99,
        "weight_decay": 0.0,
        "p": 1e-2,
        "eps": 1e-12,
        "update_period": SOPHIA_EVERY,
    },
    space={
        "lr": Continuous(low=1e-3, high=10.0, default=6e-2),  # lr / gamma of the paper, whose gamma is 0.01
        "p": Continuous(low=1e-3, high=1e-1, default=1e-2),
        "weight_decay": Continuous(low=1e-4, high=1.0, default=1e-2),
    },
    source="Liu et al. 2023 (Sophia-H); pytorch_optimizer.SophiaH",
    evaluations_per_step=1.0 + HESSIAN_PRODUCT_COST / SOPHIA_EVERY,
)
