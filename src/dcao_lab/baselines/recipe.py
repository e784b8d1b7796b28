"""The record of a baseline that DCAO does not wrap, with the function that builds it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from dcao_lab.baselines.base import Baseline, Build, BuildRequest
from dcao_lab.baselines.settings import Settings, Values, complete
from dcao_lab.baselines.space import SearchSpace
from dcao_lab.errors import LabError
from dcao_lab.workloads import Problem

MakeOptimizer = Callable[[Problem, BuildRequest, Values], torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A baseline that DCAO does not wrap and cannot watch.

    Attributes:
        name: As in :class:`Baseline`; also its family.
        title: As in :class:`Baseline`.
        make: Builds the optimizer from the problem, the request and all settings.
        space: As in :class:`Baseline`.
        source: As in :class:`Baseline`.
        defaults: All settings that it knows, with their default values.
        evaluations_per_step: As in :class:`Baseline`, at the default settings.
    """

    name: str
    title: str
    make: MakeOptimizer
    space: SearchSpace
    source: str
    defaults: Settings = field(default_factory=dict)
    evaluations_per_step: float = 1.0

    def baseline(self) -> Baseline:
        """The record for the registry."""
        return Baseline(
            name=self.name,
            title=self.title,
            family=self.name,
            is_wrapped=False,
            build=self._build(),
            space=self.space,
            lr=float(self.space["lr"].default),
            evaluations_per_step=self.evaluations_per_step,
            source=self.source,
            can_be_watched=False,
        )

    def _build(self) -> Build:
        def build(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
            values = complete(self.title, request.settings, self.defaults)
            if request.watch:
                raise LabError(
                    f"{self.title} cannot be watched: DCAO knows no stability threshold of its update; "
                    "leave watch out, or watch sgd, adam or adamw"
                )
            return self.make(problem, request, values)

        return build
