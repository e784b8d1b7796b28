"""How far successive gradients are from a right angle, at every step while the policy wants to know it well.

One cosine says little: with 300 numbers in a gradient of which a fifth is signal it is off by a tenth or more. A probe
has one for nothing, and in runs of some hundred steps there are too few probes to tell much noise from little.

Its size is what tells noise, not its sign. Noise turns gradients to a right angle. On a plateau, and at the edge of
stability, the gradient turns round from step to step: in vision transformers the cosine swings between -0.7 and 0.7,
and its mean would say that there is nothing but noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dcao.blocks import Vector
from dcao.controller import Controller
from dcao.probing.agreement import agreement_with
from dcao.vectors import flatten, vector_dtype


def is_wanted(controller: Controller, step: int) -> bool:
    """Whether the policy wants the gradients of this step compared with those of the one before."""
    state = controller.policy_state
    return state is not None and controller.policy.watches_agreement(step, state)


class AgreementWatch:
    """Sizes of the cosines between the gradients of successive steps since the last probe.

    Attributes:
        past: The gradient of the step before, in blocks; None where the coming one is not compared with it.
        sizes: Since the last probe.

    Example:
        >>> import torch
        >>> watch = AgreementWatch()
        >>> for gradient in ([1.0, 0.0], [0.6, 0.8], [-0.8, 0.6]):
        ...     if watch.past is not None:
        ...         watch.note([torch.tensor(gradient)])
        ...     watch.past = [torch.tensor(gradient)]
        >>> round(watch.mean_with(0.9), 6)  # of 0.6, 0 and that of the probe itself
        0.5
    """

    def __init__(self) -> None:
        self.past: Vector | None = None
        self.sizes: list[float] = []

    def note(self, gradients: Sequence[Tensor]) -> None:
        """Compare the gradients of the coming step with those of the one before, which are kept."""
        assert self.past is not None
        value = agreement_with(self.past, gradients, dtype=vector_dtype(gradients))
        self.sizes += [] if value is None else [abs(value)]

    def mean_with(self, latest: float | None) -> float | None:
        """The mean since the last probe, with what this one says; None if neither says anything."""
        values = self.sizes if latest is None else [*self.sizes, abs(latest)]
        return math.fsum(values) / len(values) if values else None

    def state_dict(self) -> dict[str, Any]:
        """What it goes on from."""
        return {"past": None if self.past is None else flatten(self.past), "sizes": list(self.sizes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.past = None if state["past"] is None else [state["past"]]
        self.sizes = [float(each) for each in state["sizes"]]
