"""CurvatureProbe: from batches and a live optimizer to a CurvatureEstimate, leaving no trace on either."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao.checks import require_whole
from dcao.curvature import CurvatureEstimate, Measure
from dcao.data_parallel import without_gradient_sync
from dcao.isolation import model_modules, without_autocast
from dcao.measurement import Measurement
from dcao.operators.hessian import vector_dtype
from dcao.operators.hvp import HvpKind
from dcao.probe_batch import ProbeBatch, gradients_left
from dcao.vectors import flatten, trainable


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """What a probe measures and how; the arguments of the same names of :class:`dcao.DCAO` say more."""

    measure: Measure = "load"
    k: int = 5
    num_lanczos_steps: int | None = None
    tolerance: float | None = None
    hvp: HvpKind = "auto"
    step_length: float | Literal["step"] | None = None
    momentum_aware: bool = False
    smallest: bool = False
    groups: tuple[int, ...] | None = None
    basis_dtype: torch.dtype | None = None
    basis_device: torch.device | str | None = None

    def __post_init__(self) -> None:
        require_whole("k", self.k, "eigenpair")
        if self.num_lanczos_steps is not None:
            require_whole("num_lanczos_steps", self.num_lanczos_steps, "step")
        if self.num_lanczos_steps is not None and self.num_lanczos_steps < self.k:
            raise ValueError(f"num_lanczos_steps must be at least k = {self.k}, got {self.num_lanczos_steps}")
        if self.tolerance is not None and not 0.0 < self.tolerance < math.inf:
            raise ValueError(f"tolerance must be positive and finite, got {self.tolerance}")
        if self.hvp not in get_args(HvpKind):
            raise ValueError(f"hvp must be one of {', '.join(get_args(HvpKind))}, got {self.hvp!r}")
        length = self.step_length
        is_number = isinstance(length, (int, float)) and not isinstance(length, bool)
        if length is not None and length != "step" and not (is_number and 0.0 < float(length) < math.inf):
            raise ValueError(f'step_length must be positive and finite, "step" or None, got {length!r}')
        if self.groups is not None and not isinstance(self.groups, (tuple, list)):
            raise TypeError(f"groups must be a tuple of indices, got {self.groups!r}; write ({self.groups!r},)")
        if self.groups is not None and not self.groups:
            raise ValueError("groups must name at least one param group, got none; leave it out to measure all")


class CurvatureProbe:
    """Measures the curvature of a loss at the present parameters of an optimizer.

    Owns what one probe hands to the next: the Ritz vectors that the next Lanczos run starts from, and its generator;
    and the gradient of the training batch before the coming one, if a probe is going to want it.
    """

    def __init__(self, settings: ProbeSettings, *, seed: int = 0) -> None:
        self.settings, self.seed = settings, seed
        self._modules: tuple[tuple[int, ...], list[nn.Module]] | None = None
        self._modules_of_groups: tuple[list[tuple[int, int]], list[nn.Module]] | None = None
        self.start_afresh()

    def start_afresh(self) -> None:
        """As before the first probe."""
        self.generator = torch.Generator().manual_seed(self.seed)
        self.starts: dict[str, Tensor] = {}
        self.past_gradient: Tensor | None = None

    def params(self, optimizer: Optimizer) -> list[Tensor]:
        """The parameters that are probed: those of the chosen groups that require grad."""
        groups = self.settings.groups
        if groups is not None and not all(0 <= index < len(optimizer.param_groups) for index in groups):
            raise ValueError(f"groups must be in 0..{len(optimizer.param_groups) - 1}, got {list(groups)}")
        chosen = range(len(optimizer.param_groups)) if groups is None else groups
        return trainable(p for index in chosen for p in optimizer.param_groups[index]["params"])

    def modules(self, params: Sequence[Tensor]) -> list[nn.Module]:
        """Modules of the models that ``params`` belong to, found once."""
        key = tuple(map(id, params))
        if self._modules is None or self._modules[0] != key:
            self._modules = key, model_modules(params)
        return self._modules[1]

    def modules_of(self, optimizer: Optimizer) -> list[nn.Module]:
        """The same for an optimizer, at every step: looked at again only where its groups have changed."""
        key = [(id(group["params"]), len(group["params"])) for group in optimizer.param_groups]
        if self._modules_of_groups is None or self._modules_of_groups[0] != key:
            self._modules_of_groups = key, self.modules(self.params(optimizer))
        return self._modules_of_groups[1]

    def measure(
        self, optimizer: Optimizer, batches: Sequence[ProbeBatch], *, step: int, spectrum: bool
    ) -> CurvatureEstimate:
        """What ``settings.measure`` needs, and the top of the Hessian's spectrum as well if ``spectrum``."""
        params = self.params(optimizer)
        modules = self.modules(params)
        # The loss runs under the caller's autocast, our arithmetic never does.
        batches = [batch.keeping_autocast() for batch in batches]
        with (
            without_autocast(),
            without_gradient_sync(modules),
            Measurement(self, optimizer, params, modules, batches) as run,
        ):
            return run.estimate(step, spectrum=spectrum)

    def remember_gradient(self, optimizer: Optimizer) -> None:
        """Keep the training batch's gradient, which is in ``.grad``: to the next batch it is an independent one."""
        if self.settings.measure in ("load", "batch"):
            params = self.params(optimizer)
            self.past_gradient = flatten(gradients_left(params), dtype=vector_dtype(params))

    def state_dict(self) -> dict[str, Any]:
        """What the next probe starts from."""
        return {
            "starts": dict(self.starts),
            "past_gradient": self.past_gradient,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.starts, self.past_gradient = dict(state["starts"]), state["past_gradient"]
        self.generator.set_state(state["generator"].to(device="cpu", dtype=torch.uint8))

    def __getstate__(self) -> dict[str, Any]:
        # The modules are found again; a copy of the optimizer must not copy the model.
        return {**self.__dict__, "_modules": None, "_modules_of_groups": None, "generator": self.generator.get_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.generator = torch.Generator()
        self.generator.set_state(state["generator"])
