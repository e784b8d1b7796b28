"""The record of an optimizer that runs can be compared with, and how each one is built."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

import dcao

TOP_K = 5  # Ritz values followed over time
WATCH_EVERY = 10  # steps between probes of a bare optimizer: as often as DCAO itself probes


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What a run asks of its optimizer.

    Attributes:
        lr: Initial learning rate.
        seed: Seed of the probes.
        watch: Measure a bare optimizer too, without changing anything.
        spectrum_every: Steps between measurements of the top Ritz values; None measures none.
        recorder: Where the probes' records go; None keeps none.
    """

    lr: float
    seed: int = 0
    watch: bool = False
    spectrum_every: int | None = None
    recorder: dcao.Recorder | None = None


Build = Callable[[Iterable[nn.Parameter], BuildRequest], torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """An optimizer by name.

    Attributes:
        name: What the command line calls it.
        title: What the report calls it.
        family: The bare optimizer underneath; its members share a colour in the report.
        is_wrapped: Whether DCAO steers it.
        build: Makes it for a model's parameters.
    """

    name: str
    title: str
    family: str
    is_wrapped: bool
    build: Build


def adamw(params: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """AdamW with torch's defaults."""
    return torch.optim.AdamW(params, lr=lr)


def sgd(params: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """SGD with momentum 0.9."""
    return torch.optim.SGD(params, lr=lr, momentum=0.9)


def bare(base: Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]) -> Build:
    """The optimizer as torch has it; watched, it is inside a DCAO that changes nothing, bit for bit."""

    def build(params: Iterable[nn.Parameter], request: BuildRequest) -> torch.optim.Optimizer:
        optimizer = base(params, request.lr)
        if not request.watch:
            return optimizer
        return dcao.DCAO(optimizer, policy=dcao.policies.fixed(), every=WATCH_EVERY, **_probing(request))

    return build


def steered(base: Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]) -> Build:
    """The optimizer inside DCAO as we recommend it: no option given."""

    def build(params: Iterable[nn.Parameter], request: BuildRequest) -> torch.optim.Optimizer:
        return dcao.DCAO(base(params, request.lr), **_probing(request))

    return build


def watch(optimizer: torch.optim.Optimizer, measure: str, seed: int) -> dcao.DCAO:
    """A DCAO that measures what ``optimizer`` does by ``measure``, and changes nothing."""
    base = optimizer.base if isinstance(optimizer, dcao.DCAO) else optimizer
    return dcao.DCAO(base, policy=dcao.policies.fixed(), measure=measure, seed=seed)


def literal(base: Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]) -> Build:
    """The optimizer inside the proposal's algorithm to the letter: raw eta * lambda_max."""

    def build(params: Iterable[nn.Parameter], request: BuildRequest) -> torch.optim.Optimizer:
        optimizer = base(params, request.lr)
        return dcao.DCAO.literal(optimizer, every=50, k=TOP_K, recorder=request.recorder, seed=request.seed)

    return build


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
        name=prefix + name, title=title.format(base_title), family=name, is_wrapped=wrapped, build=wrap(base)
    )
    for name, base_title, base in _BASES
    for prefix, title, wrapped, wrap in _WRAPPERS
}
