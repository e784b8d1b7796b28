"""The record by which an optimizer takes part in a comparison, and what a run asks of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch

import dcao
from dcao_lab.baselines.settings import Settings, Values, complete
from dcao_lab.baselines.space import SearchSpace
from dcao_lab.errors import LabError
from dcao_lab.workloads import Problem

TOP_K = 5  # number of Ritz values in the spectra of a watched run
WATCH_EVERY = 10  # steps between probes of a bare optimizer; DCAO itself probes more often at first, and less later


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
    settings: Values = field(default_factory=dict)
    num_steps: int = 1000
    seed: int = 0
    watch: bool = False
    spectrum_every: int | None = None
    recorder: dcao.Recorder | None = None


Make = Callable[[Problem, BuildRequest], torch.optim.Optimizer]


def _never(settings: Settings) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """An optimizer that runs can be compared with.

    Attributes:
        name: Its name on the command line.
        title: Its name in the report.
        make: Returns the optimizer for a problem and a request with all settings. One that needs more than gradients
            has ``minimize(loss_fn)``, or ``minimize(loss_fn, batch)`` and ``needs_batch = True``. In ``probe_cost`` it
            counts the gradient evaluations that it spends beyond one forward and one backward pass a step.
        space: The hyperparameters that a search may vary.
        source: The paper and the code that it is taken from.
        defaults: All settings that it knows, with their default values; None if they depend on the settings that are
            given, which ``make`` then gets as they are.
        base: The bare optimizer inside it, if DCAO sets the hyperparameters of one.
        evaluations_per_step: Typical number of gradient evaluations a step; a run counts its own.
        probes: Takes the number of steps of a run, and returns a schedule of the steps that cost one evaluation more;
            None if all steps cost the same.
        can_be_watched: Whether DCAO can measure s for it, which takes a stability threshold of its update.
        ignores_lr: Whether the initial learning rate has no effect beside these settings.
    """

    name: str
    title: str
    make: Make
    space: SearchSpace
    source: str
    defaults: Settings | None = field(default_factory=dict)
    base: "Baseline | None" = None
    evaluations_per_step: float = 1.0
    probes: Callable[[int], dcao.schedules.Schedule] | None = None
    can_be_watched: bool = False
    ignores_lr: Callable[[Settings], bool] = _never

    @property
    def is_wrapped(self) -> bool:
        """Whether DCAO sets its hyperparameters."""
        return self.base is not None

    @property
    def family(self) -> str:
        """Name of the bare optimizer in it; optimizers of one family share a colour in the report."""
        return (self.base or self).name

    @property
    def lr(self) -> float:
        """Initial learning rate if none is given and none is searched."""
        return float((self.base or self).space["lr"].default)

    def build(self, problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
        """The optimizer for one run.

        A bare optimizer that is watched is inside a DCAO that changes nothing, bit for bit.

        Raises:
            LabError: It does not know a setting, or it is to be watched and cannot be.
        """
        if self.defaults is not None:
            request = replace(request, settings=complete(self.title, request.settings, self.defaults))
        if request.watch and not self.can_be_watched:
            raise LabError(
                f"{self.title} cannot be watched: DCAO knows no stability threshold of its update; "
                "leave watch out, or watch sgd, adam or adamw"
            )
        optimizer = self.make(problem, request)
        if self.is_wrapped or not request.watch:
            return optimizer
        return dcao.DCAO(optimizer, policy=dcao.policies.Fixed(), every=WATCH_EVERY, **probing(request))

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
    step, probed, checked = 0, 0.0, 0.0
    while step * evaluations_per_step + probed + checked < budget:
        probed += probes(step, probed + 1.0)
        checked = min(probed, 1.0)  # the first probe evaluates the loss twice; schedules do not see that
        step += 1
    return step


def probing(request: BuildRequest, **measured: Any) -> Values:
    """The arguments that every ``dcao.DCAO`` of a run gets; ``measured`` are fields of its ``ProbeSettings``."""
    return {
        "measure": dcao.ProbeSettings(**{"k": TOP_K, **measured}),
        "recorder": request.recorder,
        "spectrum_every": request.spectrum_every,
        "seed": request.seed,
    }
