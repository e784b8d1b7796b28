"""A curvature matrix with a diagonal added, as coupled weight decay adds it."""

from __future__ import annotations

from torch import Tensor

from dcao.operators.base import LinearOperator, WrappedOperator


class DiagonalShift(WrappedOperator):
    """The operator ``A + diag(shift)``, for example a Hessian with coupled weight decay.

    Args:
        operator: ``A``.
        shift: A flat vector; one of a single entry shifts every entry of the diagonal.

    Example:
        >>> import torch
        >>> from dcao.operators.base import MatrixOperator
        >>> DiagonalShift(MatrixOperator(torch.eye(2)), torch.tensor([0.5, 0.0])).matvec(torch.ones(2))
        tensor([1.5000, 1.0000])
    """

    def __init__(self, operator: LinearOperator, shift: Tensor) -> None:
        super().__init__(operator)
        self.shift = shift

    def matvec(self, vector: Tensor) -> Tensor:
        """``A @ vector + shift * vector``."""
        return self._inner_matvec(vector).addcmul_(self.shift, vector)
