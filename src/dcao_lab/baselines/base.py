"""What an optimizer has to be to take part in a comparison."""

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
        settings: Other hyperparameters by name; an optimizer refuses those that it does not know.
        num_steps: Training steps of the run, for what changes over its course.
        seed: Seed of the probes, and of other random numbers that an optimizer draws.
        watch: Measure a bare optimizer too, without changing anything.
        spectrum_every: Steps between measurements of the top Ritz values; None measures none.
        recorder: Where the probes' records go; None keeps none.
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
    """An optimizer by name.

    What it builds is a ``torch.optim.Optimizer``. One that needs more than gradients offers ``minimize(loss_fn)``, or
    ``minimize(loss_fn, batch)`` and ``needs_batch = True``; what it spends beyond a forward and a backward a step it
    counts in ``probe_cost``, in gradient evaluations.

    Attributes:
        name: What the command line calls it.
        title: What the report calls it.
        family: The bare optimizer underneath; its members share a colour in the report.
        is_wrapped: Whether DCAO steers it.
        build: Makes it for a problem.
        space: What a search may vary.
        lr: Initial learning rate where none is given and none is searched.
        evaluations_per_step: Gradient evaluations a step, as a rule; a run counts its own.
        source: Paper and code that it is taken from.
        probes: When one evaluation more is due in a run of so many steps, where that is not the same at every step;
            None: it is.
        can_be_watched: Whether DCAO can measure it: s needs a stability threshold of the update.
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
        """Training steps that spend ``budget`` gradient evaluations, as a rule; the last may exceed it."""
        if self.probes is None:
            return max(1, round(budget / self.evaluations_per_step))
        at_most = math.ceil(budget / self.evaluations_per_step)
        guess = _steps_between_probes(self.probes(at_most), self.evaluations_per_step, budget)
        return _steps_between_probes(self.probes(guess), self.evaluations_per_step, budget)


@cache
def _steps_between_probes(probes: dcao.schedules.Schedule, evaluations_per_step: float, budget: float) -> int:
    """The same step by step; the runs of a study share a few budgets, of up to millions of steps."""
    step, probed = 0, 0.0
    while step * evaluations_per_step + probed < budget:
        probed += probes(step, probed + 1.0)
        step += 1
    return step
