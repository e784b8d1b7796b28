"""The record by which an optimizer takes part in a comparison, and what a run asks of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch

import dcao
from dcao_lab.baselines.space import SearchSpace
from dcao_lab.config import Setting
from dcao_lab.workloads import Problem


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What a run asks of its optimizer.

    Attributes:
        lr: Initial learning rate.
        settings: Other hyperparameters by name; an optimizer raises an error for those that it does not know.
        num_steps: Number of training steps of the run, for hyperparameters that change over its course.
        seed: Seed of the probes, and of other random numbers that an optimizer draws.
        watch: Wrap a bare optimizer too, in a DCAO that measures s and changes nothing.
        spectrum_every: Steps between measurements of the top Ritz values; None for no measurement.
        recorder: Receives the records of the probes; None keeps none.
    """

    lr: float
    settings: dict[str, Setting] = field(default_factory=dict)
    num_steps: int = 1000
    seed: int = 0
    watch: bool = False
    spectrum_every: int | None = None
    recorder: dcao.Recorder | None = None


Build = Callable[[Problem, BuildRequest], torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """An optimizer that runs can be compared with.

    ``build`` returns a ``torch.optim.Optimizer``. One that needs more than gradients has ``minimize(loss_fn)``, or
    ``minimize(loss_fn, batch)`` and ``needs_batch = True``. In ``probe_cost`` it counts the gradient evaluations that
    it spends beyond one forward and one backward pass a step.

    Attributes:
        name: Its name on the command line.
        title: Its name in the report.
        family: Name of the bare optimizer in it; optimizers of one family share a colour in the report.
        is_wrapped: Whether DCAO sets its hyperparameters.
        build: Builds it for a problem and a request.
        space: The hyperparameters that a search may vary.
        lr: Initial learning rate if none is given and none is searched.
        evaluations_per_step: Typical number of gradient evaluations a step; a run counts its own.
        source: The paper and the code that it is taken from.
        probes: Takes the number of steps of a run, and returns a schedule of the steps that cost one evaluation more;
            None if all steps cost the same.
        can_be_watched: Whether DCAO can measure s for it, which takes a stability threshold of its update.
    """

    name: str
    title: str
    family: str
    is_wrapped: bool
    build: Build
    space: SearchSpace
    lr: float
    evaluations_per_step: float
    source: str
    probes: Callable[[int], dcao.schedules.Schedule] | None = None
    can_be_watched: bool = True

    def steps_within(self, budget: float) -> int:
        """The number of training steps that typically spend ``budget`` gradient evaluations; the last may exceed it."""
        if self.probes is None:
            return max(1, round(budget / self.evaluations_per_step))
        at_most = math.ceil(budget / self.evaluations_per_step)
        guess = _steps_between_probes(self.probes(at_most), self.evaluations_per_step, budget)
        return _steps_between_probes(self.probes(guess), self.evaluations_per_step, budget)


@cache
def _steps_between_probes(probes: dcao.schedules.Schedule, evaluations_per_step: float, budget: float) -> int:
    """The number of steps within ``budget``, counted step by step; cached, because studies repeat a few budgets."""
    step, probed = 0, 0.0
    while step * evaluations_per_step + probed < budget:
        probed += probes(step, probed + 1.0)
        step += 1
    return step
