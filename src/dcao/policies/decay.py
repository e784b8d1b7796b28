"""How long lr decays at the end of a run: the less the gradients of successive batches agree, the longer.

At a constant lr the loss stays above its valley by what the noise of the batches keeps stirring up, and a decay lets it
settle. Where a gradient is nearly all noise that is most of what there is to gain.
"""

from __future__ import annotations

import statistics

from dcao.policies.base import Observation

SHARES = (0.3, 0.8)
"""Share of the run over which lr goes to 0 where successive batches agree, and where they are nearly all noise."""

AGREEMENTS = (0.25, 0.15)
"""Median agreements at which lr decays over these shares; between them the share is in between, in a straight line."""

EARLY = (0.05, 0.2)
"""Part of the run whose agreements count: after the first steps, in which all batches ask for the same, and before the
longest decay begins."""

MOST_AGREEMENTS = 99
"""Largest number of agreements that are kept: the last ones."""


def counts(step: int, total_steps: int | None) -> bool:
    """Whether the agreement at this step is one of those that the share of the decay follows."""
    return total_steps is not None and EARLY[0] * total_steps <= step < EARLY[1] * total_steps


def with_agreement(agreements: list[float], observation: Observation, total_steps: int | None) -> list[float]:
    """The agreements that count so far, with that of a probe if it is one of them."""
    if observation.agreement is None or not counts(observation.step, total_steps):
        return agreements
    return [*agreements, observation.agreement][-MOST_AGREEMENTS:]


def share_of_decay(agreements: list[float]) -> float:
    """Share of a run over which its lr goes to 0, from the agreement of successive batches early in it.

    Example:
        >>> share_of_decay([0.5]), round(share_of_decay([0.2]), 3), share_of_decay([0.01]), share_of_decay([])
        (0.3, 0.55, 0.8, 0.3)
    """
    (shortest, longest), (agreed, noisy) = SHARES, AGREEMENTS
    agreement = statistics.median(agreements) if agreements else agreed
    noise = min(max((agreed - agreement) / (agreed - noisy), 0.0), 1.0)
    return shortest + (longest - shortest) * noise
