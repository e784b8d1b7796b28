"""What one probe hands to the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dcao.blocks import Vector
from dcao.gradients.step_scaling import StepScaling
from dcao.probing.repeatability import Repeats
from dcao.vectors import flatten


@dataclass(kw_only=True)
class ProbeMemory:
    """Start vectors, a gradient and a random stream, which one probe leaves for the next.

    Attributes:
        generator: Source of the random start vectors.
        starts: Ritz vectors that the next Lanczos run starts from, by the name of the run.
        num_runs: Lanczos runs so far, by their names.
        past_gradient: Gradient of the last training batch, in blocks, if the coming step is going to be probed.
        why_not_lifted: Why half-precision parameters cannot be evaluated in float32, if a probe has found out.
        natural_length: What steps are measured against while the weights, which have started at zero, are shorter; 0 if
            they have not; None before the first probe along the step.
        scaling: What happens to gradients between a probe and the step, in a loop that calls backward itself.
        probed: Gradient of the loss that such a loop has probed for the coming step, in blocks.
        repeats: What is known of evaluations of the loss at the same point.
    """

    generator: torch.Generator
    starts: dict[str, Tensor] = field(default_factory=dict)
    num_runs: dict[str, int] = field(default_factory=dict)
    past_gradient: Vector | None = None
    why_not_lifted: str = ""
    natural_length: float | None = None
    scaling: StepScaling = field(default_factory=StepScaling)
    probed: Vector | None = None
    repeats: Repeats = Repeats.UNKNOWN
    _owners: list[int] | None = None  # ids of the parameters that the vectors belong to, in this process

    @classmethod
    def fresh(cls, seed: int) -> ProbeMemory:
        """The memory before the first probe."""
        return cls(generator=torch.Generator().manual_seed(seed))

    def belong_to(self, params: Sequence[Tensor]) -> None:
        """Forget the vectors of other parameters: of those that were replaced, even by new ones of their size."""
        owners = [id(p) for p in params]
        if self._owners is not None and self._owners != owners:
            self.starts, self.past_gradient, self.probed = {}, None, None
        self._owners = owners

    def state_dict(self) -> dict[str, Any]:
        """What the next probe starts from."""
        return {
            "starts": dict(self.starts),
            "num_runs": dict(self.num_runs),
            "past_gradient": None if self.past_gradient is None else flatten(self.past_gradient),
            "why_not_lifted": self.why_not_lifted,
            "natural_length": self.natural_length,
            "scaling": dataclasses.asdict(self.scaling),
            "generator": self.generator.get_state(),
            "repeats": self.repeats.value,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.starts, self.num_runs = dict(state["starts"]), dict(state["num_runs"])
        self.past_gradient = None if state["past_gradient"] is None else [state["past_gradient"]]
        self.why_not_lifted = state["why_not_lifted"]
        self.natural_length = state["natural_length"]
        self.scaling, self.probed = StepScaling(**state["scaling"]), None
        self.repeats = Repeats(state["repeats"])
        self.generator.set_state(state["generator"].to(device="cpu", dtype=torch.uint8))

    def __getstate__(self) -> dict[str, Any]:
        return self.state_dict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.generator = torch.Generator()
        self.load_state_dict(state)
