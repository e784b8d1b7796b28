"""What one run's losses and evaluations come to: when it reached the target, and how smoothly it got there.

Stability is measured on the logarithm of the mini-batch loss, ``l_t = ln(loss_t)``, so that a loss that scatters 10 %
around its trend scatters as much at 2.0 as at 0.02. The trend ``m_t`` is the running median of ``WINDOW`` steps
around t, beyond the ends of the run its first and last loss. A median and no mean: a single spike does not move the
trend, and of a loss that only falls (or only rises) the trend is the loss itself, so a smooth run scores 0 however
fast it is. Losses that are not positive and finite have no logarithm and are left out, as if their steps had not been:
a squared loss may be exactly 0, and that a loss became nan is what ``Outcome.DIVERGED`` says. Both numbers contain the
scatter from batch to batch: compare runs with equal batches.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import median_filter

from dcao_lab.runs.training import EvaluationPoint
from dcao_lab.workloads.base import WorkloadInfo

# Steps: short against a training run, long against an oscillation. Odd, so that it has a middle, and with an odd half
# (5): of a loss that alternates between two values, as at the edge of stability, most of the window then has the other
# value, and the loss scores its full swing. With an even half (9, 13) it would be its own trend and score 0.
WINDOW = 11


def oscillation(losses: Sequence[float]) -> float | None:
    """How far the mini-batch loss is from its trend, as a share: the mean over the steps of ``|l_t - m_t|``.

    0 is smooth; 0.1 means that losses lie 10 % off their trend. None of fewer than ``WINDOW`` losses.

    Example:
        >>> oscillation([0.5**step for step in range(20)])
        0.0
        >>> round(oscillation([1.0, 1.1] * 500), 2)  # at every step the trend is the other value
        0.09
    """
    log_losses = _log_losses(losses)
    if len(log_losses) < WINDOW:
        return None
    return float(np.abs(log_losses - _trend(log_losses)).mean())


def largest_rise(losses: Sequence[float]) -> float | None:
    """How far the trend of the loss ever rose above its best so far, in e-folds: maximum of ``m_t - min(m_0..m_t)``.

    0 where the trend only falls; 1 where it once was e times what it had been. None of fewer than ``WINDOW`` losses.

    Example:
        >>> round(largest_rise([1.0] * 20 + [math.e] * 20 + [0.5] * 20), 6)
        1.0
    """
    log_losses = _log_losses(losses)
    if len(log_losses) < WINDOW:
        return None
    trend = _trend(log_losses)
    return float((trend - np.minimum.accumulate(trend)).max())


def first_at_target(points: Iterable[EvaluationPoint], info: WorkloadInfo) -> EvaluationPoint | None:
    """The first evaluation whose validation metric is as good as the workload's target; None: it was never reached."""
    return next((point for point in points if _is_reached(point.metrics[f"validation_{info.metric}"], info)), None)


def best_of(points: Iterable[EvaluationPoint], info: WorkloadInfo, split: str) -> float | None:
    """The best value of the workload's metric on a split at any evaluation; None when no value is a number."""
    values = [number(point.metrics[f"{split}_{info.metric}"]) for point in points]
    finite = [value for value in values if value is not None]
    choose = max if info.higher_is_better else min
    return choose(finite) if finite else None


def generalisation_gap(final: dict[str, float | None]) -> float | None:
    """How much more the loss is on test data than on training data; None where either is no number."""
    test, train = final.get("test_loss"), final.get("train_loss")
    return None if test is None or train is None else test - train


def number(value: Any) -> float | None:
    """The value if it is a finite number, else None."""
    return value if value is not None and math.isfinite(value) else None


def _is_reached(value: float | None, info: WorkloadInfo) -> bool:
    if value is None:  # nan, as a stored run has it
        return False
    return value >= info.target if info.higher_is_better else value <= info.target


def _log_losses(losses: Sequence[float]) -> np.ndarray:
    values = np.array(losses, dtype=np.float64)
    return np.log(values[np.isfinite(values) & (values > 0.0)])


def _trend(log_losses: np.ndarray) -> np.ndarray:
    trend: np.ndarray = median_filter(log_losses, size=WINDOW, mode="nearest")
    return trend
