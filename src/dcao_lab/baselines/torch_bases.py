"""SGD with momentum, Adam and AdamW of torch, bare or inside a DCAO that only measures."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import dcao
from dcao_lab.baselines.base import Baseline, Build, BuildRequest
from dcao_lab.baselines.settings import Settings, Values, complete
from dcao_lab.baselines.space import Continuous, SearchSpace
from dcao_lab.workloads import Problem

TOP_K = 5  # number of Ritz values in the spectra of a watched run
WATCH_EVERY = 10  # steps between probes of a bare optimizer; DCAO itself probes more often at first, and less later

MakeBase = Callable[[Iterable[nn.Parameter], float, Values], torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class TorchBase:
    """An optimizer of torch that runs bare, and that DCAO can wrap.

    Attributes:
        name: As in :class:`Baseline`; also its family.
        title: As in :class:`Baseline`.
        make: Builds it from parameters, learning rate and all settings.
        defaults: All settings that it knows, with torch's defaults (but SGD's momentum of 0.9 is ours).
        space: The hyperparameters that a search may vary for the bare optimizer; for a wrapped one fewer of these, and
            DCAO's own.
        source: As in :class:`Baseline`.
    """

    name: str
    title: str
    make: MakeBase
    defaults: Settings
    space: SearchSpace
    source: str

    def baseline(self) -> Baseline:
        """The record of the bare optimizer for the registry."""
        return Baseline(
            name=self.name,
            title=self.title,
            family=self.name,
            is_wrapped=False,
            build=self._build(),
            space=self.space,
            lr=float(self.space["lr"].default),
            evaluations_per_step=1.0,
            source=self.source,
        )

    def _build(self) -> Build:
        """Builds torch's optimizer; if it is watched, inside a DCAO that changes nothing, bit for bit."""

        def build(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
            values = complete(self.title, request.settings, self.defaults)
            optimizer = self.make(problem.model.parameters(), request.lr, values)
            if not request.watch:
                return optimizer
            return dcao.DCAO(optimizer, policy=dcao.policies.Fixed(), every=WATCH_EVERY, **probing(request))

        return build


def probing(request: BuildRequest, **measured: Any) -> Values:
    """The arguments that every ``dcao.DCAO`` of a run gets; ``measured`` are fields of its ``ProbeSettings``."""
    return {
        "measure": dcao.ProbeSettings(**{"k": TOP_K, **measured}),
        "recorder": request.recorder,
        "spectrum_every": request.spectrum_every,
        "seed": request.seed,
    }


def _sgd(params: Iterable[nn.Parameter], lr: float, values: Values) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=lr, **values)


def _adam(params: Iterable[nn.Parameter], lr: float, values: Values) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=lr, **with_betas(values))


def _adamw(params: Iterable[nn.Parameter], lr: float, values: Values) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=lr, **with_betas(values))


def with_betas(values: Values) -> Values:
    """The settings with ``beta1`` and ``beta2`` replaced by the pair ``betas`` that Adam and its relatives take.

    Example:
        >>> with_betas({"beta1": 0.9, "beta2": 0.99, "eps": 1e-8})
        {'eps': 1e-08, 'betas': (0.9, 0.99)}
    """
    rest = {name: value for name, value in values.items() if name not in ("beta1", "beta2")}
    return {**rest, "betas": (values["beta1"], values["beta2"])}


# The default lr and weight decay of the search are those of He et al. 2016 for ResNets.
SGD = TorchBase(
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
)
ADAM = TorchBase(
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
)
ADAMW = TorchBase(
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
)
