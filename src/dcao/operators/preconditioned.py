"""A curvature matrix in the coordinates in which a diagonal preconditioner is the identity."""

from __future__ import annotations

import torch
from torch import Tensor

from dcao.operators.base import LinearOperator, WrappedOperator


class PreconditionedOperator(WrappedOperator):
    """``P^(-1/2) A P^(-1/2)`` for a diagonal ``P``: symmetric, with the eigenvalues of ``P^-1 A``.

    Args:
        operator: ``A``.
        inverse_sqrt: The diagonal of ``P^(-1/2)`` as a flat vector.

    Raises:
        ValueError: ``inverse_sqrt`` has the wrong length, or an entry that is not positive and finite.

    Example:
        >>> from dcao.operators import MatrixOperator
        >>> inner = MatrixOperator(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> PreconditionedOperator(inner, torch.tensor([1.0, 0.5])).matvec(torch.tensor([0.0, 1.0]))
        tensor([0.5000, 0.5000])
    """

    def __init__(self, operator: LinearOperator, inverse_sqrt: Tensor) -> None:
        if inverse_sqrt.shape != (operator.size,):
            raise ValueError(
                f"inverse_sqrt must have shape ({operator.size},), the operator's size, got {tuple(inverse_sqrt.shape)}"
            )
        is_wrong = not bool(((inverse_sqrt > 0) & torch.isfinite(inverse_sqrt)).all())
        if operator.layout.on_any_rank(is_wrong):
            raise ValueError("inverse_sqrt must be positive and finite everywhere; it is P**-0.5, not P")
        super().__init__(operator)
        self.inverse_sqrt = inverse_sqrt.to(device=self.device, dtype=self.dtype)

    def matvec(self, vector: Tensor) -> Tensor:
        """Scale, multiply, scale."""
        return self._inner_matvec(vector * self.inverse_sqrt) * self.inverse_sqrt
