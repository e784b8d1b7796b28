"""The rise as a range test: while lr rises the mean loss is watched, and what was measured says how closely.

``s`` counts what a step costs in curvature, and the agreement of successive gradients is the share of one that all
batches have in common, so that s over the agreement is the cost of a step over its gain. A step that follows its batch
to the bottom has 1; the best lrs for warmup and cosine have about 10. That is no limit: on a plateau training needs
more. But where it is exceeded and the loss rises too, there are two witnesses, and each may say less.
"""

from __future__ import annotations

import statistics

WATCHED_STEPS = 100
"""Steps in which the loss is watched where the length of the run is not known; the rise takes 30 to 40."""

TURNED = 0.5
"""Largest lr, as a share of the one at the lowest mean loss, once the loss has turned up."""

COST_OVER_GAIN = 10.0
"""From here on a step costs more than the best ones do."""

SMALLEST_AGREEMENT = 0.02
"""What an agreement counts at least; below that it is chance."""

ERRORS_ALONE = 5.0
"""Standard errors by which the mean loss has to be up with the loss as the only witness."""

ERRORS_TOGETHER = 2.5
"""The same where steps cost too much as well. With it all of 12 runs of fine-tuning a GPT with AdamW are taken back
(with 5 errors throughout, 7), and of 174 runs from scratch of tasks whose loss does not turn up two."""


def cost(curvature: float, agreement: float) -> float:
    """Cost of a step over its gain, per unit of lr where the curvature is s per unit of lr."""
    return curvature / max(agreement, SMALLEST_AGREEMENT)


def errors_needed(costs: list[float], lr: float) -> float:
    """Standard errors by which the mean loss has to be up at this lr.

    Example:
        >>> errors_needed([100.0, 300.0, 900.0], lr=0.01), errors_needed([100.0, 300.0, 900.0], lr=0.1)
        (5.0, 2.5)
    """
    is_costly = bool(costs) and statistics.median(costs) * lr > COST_OVER_GAIN
    return ERRORS_TOGETHER if is_costly else ERRORS_ALONE
