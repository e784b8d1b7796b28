"""How the learning rate goes on from the initial one: factors of it over the course of a run."""

import math
from collections.abc import Callable

from dcao_lab.errors import look_up

WARMUP = 0.05  # of the run; AlgoPerf's own baselines warm up for 2 to 10 %

LrFactor = Callable[[float], float]
"""``schedule(progress)``: the factor of the initial learning rate once a share ``progress`` of the run is done."""


def constant(progress: float) -> float:
    """Always 1."""
    return 1.0


def warmup_cosine(progress: float) -> float:
    """Up from 0 over the first twentieth, then down to 0 along half a cosine (Loshchilov and Hutter 2017).

    Example:
        >>> [round(warmup_cosine(progress), 3) for progress in (0.025, 0.05, 0.525, 1.0)]
        [0.5, 1.0, 0.5, 0.0]
    """
    return _warmed(progress, annealing)


def warmup_linear(progress: float) -> float:
    """Up from 0 over the first twentieth, then down to 0 in a straight line.

    Example:
        >>> [round(warmup_linear(progress), 3) for progress in (0.025, 0.05, 0.525, 1.0)]
        [0.5, 1.0, 0.5, 0.0]
    """
    return _warmed(progress, lambda rest: 1.0 - rest)


def annealing(progress: float) -> float:
    """Down to 0 along half a cosine from the first step on, which Prodigy's authors recommend for it.

    Example:
        >>> [round(annealing(progress), 3) for progress in (0.0, 0.5, 1.0)]
        [1.0, 0.5, 0.0]
    """
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _warmed(progress: float, decay: LrFactor) -> float:
    if progress < WARMUP:
        return progress / WARMUP
    return decay(min(1.0, (progress - WARMUP) / (1.0 - WARMUP)))


SCHEDULES: dict[str, LrFactor] = {
    "constant": constant,
    "cosine": warmup_cosine,
    "linear": warmup_linear,
    "annealing": annealing,
}


def get_schedule(name: str) -> LrFactor:
    """The schedule called ``name``."""
    return look_up(SCHEDULES, name, "schedule")
