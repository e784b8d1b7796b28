"""How noisy a run's gradients are, and what follows: how long lr decays, how fast it rises again, how large s may be.

At a constant lr the loss stays above its valley by what the noise of the batches keeps stirring up, and a decay lets it
settle: where a gradient is nearly all noise that is most of what there is to gain. And curvature along the step is then
not what limits lr: it is that of one batch along its own gradient, which the next batch does not share. So room under
the ceiling is no reason to raise lr, and a large s is less of a reason to lower it.
"""

from __future__ import annotations

import statistics

from dcao.policies.base import Observation, State

SHARES = (0.3, 0.8)
"""Share of the run over which lr goes to 0 where successive batches agree, and where they are nearly all noise."""

AGREEMENTS = (0.25, 0.15)
"""Median agreements, the sizes of cosines, that stand for no noise and for nothing but noise."""

ROOM = 4.0
"""How many times larger s may be where gradients are nearly all noise. A network of ImageNet's that is fine-tuned with
batches of 16 has s = 8 at a third of its best lr with AdamW, and a half with SGD."""

NOTHING_SHARED = (0.1, 0.05)
"""Median agreements where s is as large as usual, and where it may be that much larger."""

EARLY = (0.05, 0.2)
"""Part of the run whose agreements count: after the first steps, in which all batches ask for the same, and before the
longest decay begins."""

EARLY_STEPS = (20, 100)
"""The same in steps, where the length of the run is not known."""

MOST_AGREEMENTS = 99
"""Largest number of agreements that are kept: the last ones."""


def room(agreements: list[float]) -> float:
    """How many times larger s may be than without noise.

    Example:
        >>> room([0.5]), round(room([0.2]), 3), room([0.01]), room([])
        (1.0, 1.0, 4.0, 1.0)
    """
    return 1.0 + (ROOM - 1.0) * _between(NOTHING_SHARED, agreements)


def counts(step: int, total_steps: int | None) -> bool:
    """Whether the agreement at this step is one of those that say how noisy the run is."""
    first, end = EARLY_STEPS if total_steps is None else (share * total_steps for share in EARLY)
    return first <= step < end


def with_agreement(state: State, observation: Observation, total_steps: int | None) -> State:
    """The agreements of the state that say how noisy the run is, and those before, with that of a probe."""
    value, step = observation.agreement, observation.step
    known, first = state["agreements"], state["first_agreements"]
    if value is not None and counts(step, total_steps):
        known = [*known, value][-MOST_AGREEMENTS:]
    elif value is not None and not known:
        first = [*first, value][-MOST_AGREEMENTS:]
    return {"agreements": known, "first_agreements": first}


def noise(agreements: list[float]) -> float:
    """How noisy gradients are, from 0 to 1; 0 as long as nothing is known.

    Example:
        >>> noise([0.5]), round(noise([0.1, 0.2, 0.9]), 3), noise([0.01]), noise([])
        (0.0, 0.5, 1.0, 0.0)
    """
    return _between(AGREEMENTS, agreements)


def _between(ends: tuple[float, float], agreements: list[float]) -> float:
    """Where their median is on the way from the first of these to the second; 0 as long as nothing is known."""
    agreed, noisy = ends
    if not agreements:
        return 0.0
    return min(max((agreed - statistics.median(agreements)) / (agreed - noisy), 0.0), 1.0)


def share_of_decay(agreements: list[float]) -> float:
    """Share of a run over which its lr goes to 0.

    Example:
        >>> share_of_decay([0.5]), round(share_of_decay([0.2]), 3), share_of_decay([0.01]), share_of_decay([])
        (0.3, 0.55, 0.8, 0.3)
    """
    shortest, longest = SHARES
    return shortest + (longest - shortest) * noise(agreements)
