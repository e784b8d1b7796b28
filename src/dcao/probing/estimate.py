"""What a probe says: the curvature of the loss at one step, what it cost, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dcao.spectra.lanczos import LanczosResult, LanczosStatus

Measure = Literal["load", "batch", "hessian", "preconditioned"]

ALONG_STEP = ("load", "batch")
"""Measures of the curvature along the optimizer's step; the others are eigenvalues."""


@dataclass(frozen=True, kw_only=True)
class CurvatureEstimate:
    """Curvature of the loss before one optimizer step. ``None`` and ``()`` mean: not measured by this probe.

    Attributes:
        step: Optimizer step that comes next; 0 is the first.
        loss: Loss of the probe batch.
        measure: The measure that gave ``s``.
        s: Stability number; the edge is at 2 for every optimizer. ``inf``: the loss is not finite one step away.
        stability: The stability number by each measure taken.
        trust: How far to trust ``s``: 0 (do not act on it) to 1. For a Ritz value, one minus its relative residual.
        sharpness: Largest Ritz value of the loss Hessian.
        ritz_values: The k largest, descending.
        residuals: ``||H y - theta y||`` of each: some eigenvalue of H lies this close to it.
        smallest: Smallest Ritz value, when asked for.
        preconditioned_sharpness: Largest Ritz value of ``P^-1/2 H P^-1/2``, P from the optimizer's state; with several
            param groups, lr ratios between them are counted into P.
        batch: Mini-batch curvature ``u'Hu / g'u`` along the preconditioned mini-batch gradient ``u = P^-1 g``,
            in units of 1 / lr: multiply by the optimizer's effective lr for the stability number.
        load_signal: Part of the ``batch`` stability number that successive batches share; in the load it counts
            ``(1 - b) / (1 + b)`` times, because momentum b averages over the oscillation.
        load_noise: The rest of the ``batch`` stability number, which differs from batch to batch and counts in full.
        relative_step: ``||d|| / ||w||``, ``d`` the displacement that one batch's gradient leads to in the long run at
            the present lr, ``w`` those of the probed weights that it moves, or the natural length if they started at
            zero (:mod:`dcao.probing.lengths`); None for an optimizer without a record.
        status: How the Lanczos run ended.
        num_matvecs: Hessian-vector products spent.
        cost: Gradient evaluations spent beyond the training step.
        hvp: How products were made: ``"exact"``, ``"central"`` or ``"forward"``.
        reason: What did not go as planned, in words; empty if all did.
    """

    step: int
    measure: Measure
    loss: float | None = None
    s: float | None = None
    stability: dict[str, float] = field(default_factory=dict)
    trust: float = 0.0
    sharpness: float | None = None
    ritz_values: tuple[float, ...] = ()
    residuals: tuple[float, ...] = ()
    smallest: float | None = None
    preconditioned_sharpness: float | None = None
    batch: float | None = None
    load_signal: float | None = None
    load_noise: float | None = None
    relative_step: float | None = None
    status: LanczosStatus | None = None
    num_matvecs: int = 0
    cost: float = 0.0
    hvp: str = ""
    reason: str = ""

    @property
    def spectral_gap(self) -> float | None:
        """``lambda_1 - lambda_2``; None unless two Ritz values were measured."""
        return self.ritz_values[0] - self.ritz_values[1] if len(self.ritz_values) > 1 else None

    @property
    def effective_rank(self) -> float | None:
        """Effective rank of the measured top of the spectrum (:func:`effective_rank`)."""
        return effective_rank(self.ritz_values) if self.ritz_values else None

    def at_share(self, share: float) -> CurvatureEstimate:
        """The same at this share of the lr that it was measured at.

        Example:
            >>> CurvatureEstimate(step=0, measure="load", s=2.0, relative_step=0.1).at_share(0.5).s
            1.0
        """
        if share == 1.0:
            return self

        def part(value: float) -> float:
            return value * share if share > 0.0 else 0.0  # of infinity too

        names = ("s", "load_signal", "load_noise", "relative_step")
        parts: dict[str, Any] = {name: part(value) for name in names if (value := getattr(self, name)) is not None}
        return replace(self, **parts, stability={name: part(s) for name, s in self.stability.items()})


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one kind of measure says about the loss.

    Attributes:
        stability: Stability number by each of its measures; empty if it means nothing.
        trust: How far to trust it: 0 to 1.
        reason: What did not go as planned; empty if all did.
        fields: Its other numbers, by their names in :class:`CurvatureEstimate`.
    """

    stability: dict[str, float]
    trust: float
    reason: str
    fields: dict[str, Any]


def blown_up(step: int, measure: Measure, loss: float | None) -> CurvatureEstimate:
    """What is said of a run that the guard has taken back: that no lr like the last one is stable."""
    reason = "the run blew up and has gone back"
    return CurvatureEstimate(step=step, measure=measure, loss=loss, s=math.inf, trust=1.0, reason=reason)


def effective_rank(eigenvalues: Sequence[float]) -> float:
    """Exponential of the entropy of the positive eigenvalues' shares: 1 if one dominates, k if k are equal.

    Roy and Vetterli 2007, "The effective rank". Zero and negative values carry no share.

    Example:
        >>> effective_rank([2.0, 2.0, 2.0]), effective_rank([5.0, 0.0])
        (3.0, 1.0)
    """
    positive = [value for value in eigenvalues if value > 0.0]
    total = math.fsum(positive)
    if not 0.0 < total < math.inf:
        return 0.0
    shares = [value / total for value in positive]
    return round(math.exp(-math.fsum(share * math.log(share) for share in shares if share > 0.0)), 12)


def ritz_trust(result: LanczosResult) -> float:
    """One minus the leading pair's relative residual, at least 0; 0 where nothing is shown, or there is no pair."""
    if result.status in (LanczosStatus.NONFINITE, LanczosStatus.NOISY) or not len(result.ritz_values):
        return 0.0
    value, residual = abs(float(result.ritz_values[0])), float(result.residuals[0])
    return max(0.0, 1.0 - residual / value) if value > 0.0 else 1.0
