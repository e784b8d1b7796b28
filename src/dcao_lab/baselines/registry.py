"""The optimizers that runs can be compared with, by name."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

import dcao
from dcao_lab.baselines.base import Baseline, Build, BuildRequest
from dcao_lab.baselines.space import Continuous
from dcao_lab.errors import LabError
from dcao_lab.workloads import Problem

TOP_K = 5  # Ritz values followed over time
WATCH_EVERY = 10  # steps between probes of a bare optimizer: as often as DCAO itself probes
LR = Continuous(low=1e-5, high=1.0, default=1e-3)

Base = Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]


def adamw(params: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """AdamW with torch's defaults."""
    return torch.optim.AdamW(params, lr=lr)


def sgd(params: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """SGD with momentum 0.9."""
    return torch.optim.SGD(params, lr=lr, momentum=0.9)


def bare(base: Base) -> Build:
    """The optimizer as torch has it; watched, it is inside a DCAO that changes nothing, bit for bit."""

    def build(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
        optimizer = _bare(base, problem, request)
        if not request.watch:
            return optimizer
        return dcao.DCAO(optimizer, policy=dcao.policies.fixed(), every=WATCH_EVERY, **_probing(request))

    return build


def steered(base: Base) -> Build:
    """The optimizer inside DCAO as we recommend it: no option given."""

    def build(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
        return dcao.DCAO(_bare(base, problem, request), **_probing(request))

    return build


def watch(optimizer: torch.optim.Optimizer, measure: str, seed: int) -> dcao.DCAO:
    """A DCAO that measures what ``optimizer`` does by ``measure``, and changes nothing."""
    base = optimizer.base if isinstance(optimizer, dcao.DCAO) else optimizer
    return dcao.DCAO(base, policy=dcao.policies.fixed(), measure=measure, seed=seed)


def literal(base: Base) -> Build:
    """The optimizer inside the proposal's algorithm to the letter: raw eta * lambda_max."""

    def build(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
        optimizer = _bare(base, problem, request)
        return dcao.DCAO.literal(optimizer, every=50, k=TOP_K, recorder=request.recorder, seed=request.seed)

    return build


def _bare(base: Base, problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
    if request.settings:
        raise LabError(f"unknown settings {', '.join(request.settings)}; this optimizer has lr alone")
    return base(problem.model.parameters(), request.lr)


def _probing(request: BuildRequest) -> dict[str, object]:
    return {
        "recorder": request.recorder,
        "spectrum_every": request.spectrum_every,
        "k": TOP_K,
        "seed": request.seed,
    }


_BASES = (("adamw", "AdamW", adamw), ("sgd", "SGD", sgd))
_WRAPPERS = (
    ("", "{}", False, bare),
    ("dcao:", "DCAO({})", True, steered),
    ("dcao-literal:", "literal DCAO({})", True, literal),
)

BASELINES: dict[str, Baseline] = {
    prefix + name: Baseline(
        name=prefix + name,
        title=title.format(base_title),
        family=name,
        is_wrapped=wrapped,
        build=wrap(base),
        space={"lr": LR},
        evaluations_per_step=1.2 if wrapped else 1.0,
        source="torch.optim",
    )
    for name, base_title, base in _BASES
    for prefix, title, wrapped, wrap in _WRAPPERS
}
