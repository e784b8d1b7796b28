"""How noisy a run's gradients are, and what follows: how long lr decays at the end, and how fast it rises before.

At a constant lr the loss stays above its valley by what the noise of the batches keeps stirring up, and a decay lets it
settle: where a gradient is nearly all noise that is most of what there is to gain. And curvature along the step is then
not what limits lr, so that room under the ceiling is no reason to raise it.
"""

from __future__ import annotations

import statistics

from dcao.policies.base import Observation

SHARES = (0.3, 0.8)
"""Share of the run over which lr goes to 0 where successive batches agree, and where they are nearly all noise."""

AGREEMENTS = (0.25, 0.15)
"""Median agreements, the sizes of cosines, that stand for no noise and for nothing but noise."""

EARLY = (0.05, 0.2)
"""Part of the run whose agreements count: after the first steps, in which all batches ask for the same, and before the
longest decay begins."""

EARLY_STEPS = (20, 100)
"""The same in steps, where the length of the run is not known."""

MOST_AGREEMENTS = 99
"""Largest number of agreements that are kept: the last ones."""


def counts(step: int, total_steps: int | None) -> bool:
    """Whether the agreement at this step is one of those that say how noisy the run is."""
    first, end = EARLY_STEPS if total_steps is None else (share * total_steps for share in EARLY)
    return first <= step < end


def with_agreement(agreements: list[float], observation: Observation, total_steps: int | None) -> list[float]:
    """The agreements that count so far, with that of a probe if it is one of them."""
    if observation.agreement is None or not counts(observation.step, total_steps):
        return agreements
    return [*agreements, observation.agreement][-MOST_AGREEMENTS:]


def noise(agreements: list[float]) -> float:
    """How noisy gradients are, from 0 to 1; 0 as long as nothing is known.

    Example:
        >>> noise([0.5]), round(noise([0.1, 0.2, 0.9]), 3), noise([0.01]), noise([])
        (0.0, 0.5, 1.0, 0.0)
    """
    agreed, noisy = AGREEMENTS
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
