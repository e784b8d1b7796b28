"""Schedule-Free AdamW, Prodigy, D-Adapt Adam, SOAP and Lion of ``pytorch_optimizer``."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import torch

from dcao_lab.baselines.base import Baseline, BuildRequest, Make
from dcao_lab.baselines.space import Choice, Continuous
from dcao_lab.baselines.torch_bases import with_betas
from dcao_lab.errors import LabError
from dcao_lab.norms import trainable
from dcao_lab.workloads import Problem

SMALL_WEIGHT_DECAY = Continuous(low=1e-4, high=1.0, default=1e-2)


def pytorch_optimizer() -> ModuleType:
    """The module ``pytorch_optimizer``, imported on first use because that takes a second.

    Raises:
        LabError: It is not installed.
    """
    try:
        import pytorch_optimizer
    except ImportError as error:
        raise LabError("this optimizer needs the package pytorch-optimizer; pip install '.[lab]' in a clone") from error
    return pytorch_optimizer


def _of(name: str) -> Make:
    """A function that builds the package's class ``name``; all settings are arguments of that class."""

    def make(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
        build: Callable[..., torch.optim.Optimizer] = getattr(pytorch_optimizer(), name)
        return build(trainable(problem.model), lr=request.lr, **with_betas(request.settings))

    return make


def _schedule_free(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
    settings = dict(request.settings)
    warmup_steps = round(settings.pop("warmup") * request.num_steps)
    request = replace(request, settings={**settings, "warmup_steps": warmup_steps})
    return _of("ScheduleFreeAdamW")(problem, request)


SCHEDULE_FREE_ADAMW = Baseline(
    name="schedule_free_adamw",
    title="Schedule-Free AdamW",
    make=_schedule_free,
    # warmup: share of the run over which the lr rises; the authors advise to have some
    defaults={"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eps": 1e-8, "warmup": 0.0},
    space={
        "lr": Continuous(low=1e-5, high=1e-1, default=2.5e-3),
        "weight_decay": SMALL_WEIGHT_DECAY,
        "warmup": Choice(values=(0.0, 0.05, 0.1), default=0.0),
    },
    source="Defazio et al. 2024; pytorch_optimizer.ScheduleFreeAdamW",
)
PRODIGY = Baseline(
    name="prodigy",
    title="Prodigy",
    make=_of("Prodigy"),
    defaults={"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "d0": 1e-6, "d_coef": 1.0, "eps": 1e-8},
    space={
        "lr": Continuous(low=1e-2, high=10.0, default=1.0),
        "weight_decay": SMALL_WEIGHT_DECAY,
        "beta1": Continuous(low=0.8, high=0.99, default=0.9, is_log=False),
    },
    source="Mishchenko and Defazio 2024; pytorch_optimizer.Prodigy",
)
DADAPT_ADAM = Baseline(
    name="dadapt_adam",
    title="D-Adapt Adam",
    make=_of("DAdaptAdam"),
    defaults={"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "d0": 1e-6, "eps": 1e-8},
    space={
        "lr": Continuous(low=1e-2, high=10.0, default=1.0),
        "weight_decay": SMALL_WEIGHT_DECAY,
        "beta1": Continuous(low=0.8, high=0.99, default=0.9, is_log=False),
    },
    source="Defazio and Mishchenko 2023; pytorch_optimizer.DAdaptAdam",
)
SOAP = Baseline(
    name="soap",
    title="SOAP",
    make=_of("SOAP"),
    defaults={
        "beta1": 0.95,
        "beta2": 0.95,
        "weight_decay": 1e-2,
        "eps": 1e-8,
        "precondition_frequency": 10,
        "max_precondition_dim": 10000,
    },
    space={
        "lr": Continuous(low=1e-5, high=1e-1, default=3e-3),
        "weight_decay": SMALL_WEIGHT_DECAY,
        "precondition_frequency": Choice(values=(1, 10, 50), default=10),
    },
    source="Vyas et al. 2025; pytorch_optimizer.SOAP",
)
LION = Baseline(
    name="lion",
    title="Lion",
    make=_of("Lion"),
    defaults={"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
    space={
        "lr": Continuous(low=1e-6, high=1e-2, default=1e-4),
        "weight_decay": Continuous(low=1e-3, high=10.0, default=0.1),  # Lion's lr is 3 to 10 times smaller than AdamW's
        "beta1": Continuous(low=0.8, high=0.99, default=0.9, is_log=False),
    },
    source="Chen et al. 2023; pytorch_optimizer.Lion",
)
