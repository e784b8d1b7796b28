"""How an optimizer moves along one direction of curvature, as a few numbers.

With its preconditioner P held fixed, every optimizer that we support is the same two-line recursion on a
quadratic (``g = A w``, with the coefficients of one param group at its present hyperparameters):

    m <- b * m + a * P^-1 g
    w <- (1 - d) * w - lr * (c1 * P^-1 g + c2 * m)

On an eigenvalue ``lambda`` of P^-1/2 A P^-1/2 it is a 2x2 linear map with, for ``u = c1 + c2 * a``
and ``v = b * c1``,

    trace = 1 - d + b - lr * lambda * u,    determinant = b * (1 - d) - lr * lambda * v.

`StepDynamics` keeps the combinations that the stability conditions depend on:
``step_size = lr * (u - v) / (1 - b)``, ``momentum = b``, ``lookahead = v / (u - v)`` and ``d``.
The derivation is in ``docs/theory/stability-thresholds.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StepDynamics:
    """How one param group moves along a direction of fixed curvature.

    Attributes:
        step_size: Long-run displacement a step per unit of a constant P^-1 g: ``lr / (1 - momentum)`` for heavy
            ball, whose buffer sums, and ``lr`` for Adam, whose buffer averages.
        momentum: Decay b of the gradient average, in [0, 1).
        lookahead: Weight of the newest gradient in the step beyond its share in the average: 0 for heavy ball and
            Adam, ``momentum`` for Nesterov's form.
        l2_decay: Coefficient of coupled weight decay, which makes the curvature ``A = H + l2_decay * I``.
        decoupled_decay: Share of the weights removed at every step, ``lr * weight_decay`` for AdamW.

    Raises:
        ValueError: ``step_size`` is negative or not finite, or ``momentum`` is outside [0, 1).

    Example:
        >>> gradient_descent = StepDynamics(step_size=0.1)
        >>> gradient_descent.curvature_limit
        20.0
        >>> round(StepDynamics(step_size=0.1, momentum=0.9).curvature_limit)  # Adam: 38 / lr
        380
    """

    step_size: float
    momentum: float = 0.0
    lookahead: float = 0.0
    l2_decay: float = 0.0
    decoupled_decay: float = 0.0

    def __post_init__(self) -> None:
        """Check that the coefficients are defined, and that some curvature is stable with them."""
        if not 0.0 <= self.step_size < math.inf:  # "not a <= b" also catches nan
            raise ValueError(f"step_size must be finite and not negative, got {self.step_size}; check lr and dampening")
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(
                f"momentum must be in [0, 1), got {self.momentum}; at 1 the average never forgets, so no "
                "curvature is stable: lower it"
            )

    @property
    def nesterov(self) -> bool:
        """Whether the newest gradient weighs more in the step than its share in the average."""
        return self.lookahead > 0.0

    @property
    def signal_weight(self) -> float:
        """Factor by which momentum reduces a curvature that all batches share; 1 without momentum.

        ``(1 - b) / (1 + b)`` for heavy ball and Adam, ``(1 - b) * (1 + 2 b) / (1 + b)`` for Nesterov.
        """
        return (1.0 - self.momentum) / (1.0 + self.momentum) * (1.0 + 2.0 * self.lookahead)

    @property
    def curvature_limit(self) -> float:
        """Largest stable eigenvalue of P^-1/2 A P^-1/2: ``(2 - d) / (step_size * signal_weight)``.

        Exact while P and the hyperparameters do not change. Infinite at step size 0. Zero if decoupled decay
        alone (``lr * weight_decay >= 2``) makes the weights grow.
        """
        if self.step_size == 0.0:
            return math.inf
        return max(2.0 - self.decoupled_decay, 0.0) / (self.step_size * self.signal_weight)
