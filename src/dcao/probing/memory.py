"""What one probe hands to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dcao.checkpoints import FIX


@dataclass(kw_only=True)
class ProbeMemory:
    """Start vectors, a gradient and a random stream, which one probe leaves for the next.

    Attributes:
        generator: Source of the random start vectors.
        starts: Ritz vectors that the next Lanczos run starts from, by the name of the run.
        num_runs: Lanczos runs so far, by their names.
        past_gradient: Gradient of the last training batch, if the coming step is going to be probed.
    """

    generator: torch.Generator
    starts: dict[str, Tensor] = field(default_factory=dict)
    num_runs: dict[str, int] = field(default_factory=dict)
    past_gradient: Tensor | None = None

    @classmethod
    def fresh(cls, seed: int) -> ProbeMemory:
        """The memory before the first probe."""
        return cls(generator=torch.Generator().manual_seed(seed))

    def state_dict(self) -> dict[str, Any]:
        """What the next probe starts from."""
        return {
            "starts": dict(self.starts),
            "num_runs": dict(self.num_runs),
            "past_gradient": self.past_gradient,
            "generator": self.generator.get_state(),
        }

    def check(self, state: dict[str, Any]) -> None:
        """Raise a ValueError if a saved state cannot be loaded."""
        try:
            ProbeMemory.fresh(0).load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(f'state_dict["dcao"]["loop"]["probe"] is of no use: {error}; {FIX}') from error

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.starts, self.num_runs = dict(state["starts"]), dict(state["num_runs"])
        self.past_gradient = state["past_gradient"]
        self.generator.set_state(state["generator"].to(device="cpu", dtype=torch.uint8))

    def __getstate__(self) -> dict[str, Any]:
        return self.state_dict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.generator = torch.Generator()
        self.load_state_dict(state)
