"""CurvatureProbe: from batches and a live optimizer to a CurvatureEstimate, leaving no trace on either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from dcao.isolation import model_modules, without_autocast
from dcao.operators.hessian import vector_dtype
from dcao.probing.batch import ProbeBatch, gradients_left
from dcao.probing.data_parallel import without_gradient_sync
from dcao.probing.estimate import CurvatureEstimate
from dcao.probing.measurement import Measurement
from dcao.probing.settings import ProbeMemory, ProbeSettings
from dcao.vectors import flatten, trainable


class CurvatureProbe:
    """Measures the curvature of a loss at the present parameters of an optimizer.

    Args:
        optimizer: The base optimizer, live.
        settings: What is measured, and how.
        seed: Of the random start vectors.
    """

    def __init__(self, optimizer: Optimizer, settings: ProbeSettings, *, seed: int = 0) -> None:
        self.optimizer, self.settings, self.seed = optimizer, settings, seed
        self._modules: tuple[list[tuple[int, int]], list[nn.Module]] | None = None
        self.params()  # refuses a model without trainable parameters at once
        self.start_afresh()

    def start_afresh(self) -> None:
        """As before the first probe."""
        self.memory = ProbeMemory.fresh(self.seed)

    def params(self) -> list[Tensor]:
        """The parameters that are probed: those of the chosen groups that require grad."""
        groups, param_groups = self.settings.groups, self.optimizer.param_groups
        if groups is not None and not all(0 <= index < len(param_groups) for index in groups):
            raise ValueError(f"groups must be in 0..{len(param_groups) - 1}, got {list(groups)}")
        chosen = range(len(param_groups)) if groups is None else groups
        return trainable(p for index in chosen for p in param_groups[index]["params"])

    def modules(self) -> list[nn.Module]:
        """Modules of the models that the parameters belong to; looked for again only where the groups have changed."""
        key = [(id(group["params"]), len(group["params"])) for group in self.optimizer.param_groups]
        if self._modules is None or self._modules[0] != key:
            self._modules = key, model_modules(self.params())
        return self._modules[1]

    def measure(self, batches: Sequence[ProbeBatch], *, step: int, spectrum: bool) -> CurvatureEstimate:
        """What ``settings.measure`` needs, and the top of the Hessian's spectrum as well if ``spectrum``."""
        params, modules = self.params(), self.modules()
        # The loss runs under the caller's autocast, our arithmetic never does.
        batches = [batch.keeping_autocast() for batch in batches]
        with (
            without_autocast(),
            without_gradient_sync(modules),
            Measurement(self.settings, self.memory, self.optimizer, params, modules, batches) as run,
        ):
            return run.estimate(step, spectrum=spectrum)

    def remember_gradient(self) -> None:
        """Keep the training batch's gradient, which is in ``.grad``: to the next batch it is an independent one."""
        if self.settings.measure in ("load", "batch"):
            params = self.params()
            self.memory.past_gradient = flatten(gradients_left(params), dtype=vector_dtype(params))

    def forget_gradient(self) -> None:
        """Free it."""
        self.memory.past_gradient = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_modules": None}  # found again; a copy of the optimizer must not copy the model
