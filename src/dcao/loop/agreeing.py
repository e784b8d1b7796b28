"""The agreement of successive batches at every step, while the policy wants to know it well.

One cosine says little: with 300 numbers in a gradient of which a fifth is signal it is off by a tenth or more. A probe
has one for nothing, and in runs of some hundred steps there are too few probes to tell much noise from little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dcao.controller import Controller
from dcao.probing.agreement import cosine
from dcao.probing.batch import gradients_left
from dcao.vectors import flatten, sizes_of, vector_dtype


def is_wanted(controller: Controller, step: int) -> bool:
    """Whether the policy wants the gradients of this step compared with those of the one before."""
    state = controller.policy_state
    return state is not None and controller.policy.watches_agreement(step, state)


class AgreementWatch:
    """Cosines between the gradients of successive steps since the last probe. Keeps one gradient while it watches.

    Example:
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> watch = AgreementWatch()
        >>> for gradient in ([1.0, 0.0], [0.6, 0.8], [-0.8, 0.6]):
        ...     p.grad = torch.tensor(gradient)
        ...     watch.note([p])
        ...     watch.finish_step([p], goes_on=True)
        >>> round(watch.mean_with(0.9), 6)  # of 0.6, 0 and that of the probe itself
        0.5
    """

    def __init__(self) -> None:
        self.past: Tensor | None = None
        self.cosines: list[float] = []

    def note(self, params: Sequence[Tensor]) -> None:
        """Compare the gradients of the coming step with those of the one before."""
        if self.past is None:
            return
        gradients = gradients_left(params)
        sizes = sizes_of(gradients)
        if sum(sizes) == self.past.numel():
            value = cosine(torch.split(self.past, sizes), gradients, dtype=self.past.dtype)
            self.cosines += [value] if math.isfinite(value) else []

    def mean_with(self, latest: float | None) -> float | None:
        """The mean since the last probe, with what this one says; None if neither says anything."""
        values = self.cosines if latest is None else [*self.cosines, latest]
        return math.fsum(values) / len(values) if values else None

    def finish_step(self, params: Sequence[Tensor], *, goes_on: bool) -> None:
        """Keep the gradients of the step if the next one is going to be compared with it."""
        self.past = flatten(gradients_left(params), dtype=vector_dtype(params)) if goes_on and params else None

    def state_dict(self) -> dict[str, Any]:
        """What it goes on from."""
        return {"past": self.past, "cosines": list(self.cosines)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.past, self.cosines = state["past"], [float(each) for each in state["cosines"]]
