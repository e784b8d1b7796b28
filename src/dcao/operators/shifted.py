"""A curvature matrix with a diagonal added, as coupled weight decay adds it."""

from __future__ import annotations

from torch import Tensor

from dcao.operators.base import LinearOperator, gradient_evaluations


class DiagonalShift(LinearOperator):
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
        self.operator, self.shift = operator, shift
        self.size = operator.size
        self.device = operator.device
        self.dtype = operator.dtype
        self._num_matvecs = 0

    @property
    def gradient_evaluations(self) -> float:
        """Cost of the inner operator."""
        return gradient_evaluations(self.operator, self._num_matvecs)

    def matvec(self, vector: Tensor) -> Tensor:
        """``A @ vector + shift * vector``."""
        self._num_matvecs += 1
        return self.operator.matvec(vector).addcmul_(self.shift, vector)
