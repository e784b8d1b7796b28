"""What a probe measures and how, and what one probe hands to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from dcao.checks import require_whole
from dcao.operators.hvp import HvpKind
from dcao.probing.estimate import Measure


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


@dataclass(kw_only=True)
class ProbeMemory:
    """What one probe hands to the next.

    Attributes:
        starts: Ritz vectors that the next Lanczos run starts from, by the name of the run.
        past_gradient: Gradient of the training batch before the coming one, where a probe is going to want it.
        generator: Of the random start vectors.
    """

    generator: torch.Generator
    starts: dict[str, Tensor] = field(default_factory=dict)
    past_gradient: Tensor | None = None

    @classmethod
    def fresh(cls, seed: int) -> ProbeMemory:
        """As before the first probe."""
        return cls(generator=torch.Generator().manual_seed(seed))

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
        return self.state_dict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.generator = torch.Generator()
        self.load_state_dict(state)
