"""A multiple of an operator."""

from __future__ import annotations

from torch import Tensor

from dcao.operators.base import LinearOperator, WrappedOperator


class ScaledOperator(WrappedOperator):
    """``factor * A``.

    Example:
        >>> import torch
        >>> from dcao.operators import MatrixOperator
        >>> ScaledOperator(MatrixOperator(torch.eye(2)), 3.0).matvec(torch.ones(2))
        tensor([3., 3.])
    """

    def __init__(self, operator: LinearOperator, factor: float) -> None:
        super().__init__(operator)
        self.kind, self.reason = operator.kind, operator.reason
        self.factor = factor

    def matvec(self, vector: Tensor) -> Tensor:
        """The multiple of the product with ``vector``."""
        return self._inner_matvec(vector) * self.factor
