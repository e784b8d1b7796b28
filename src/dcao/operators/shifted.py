"""A curvature matrix with a multiple of the identity added, as coupled weight decay adds it."""

from __future__ import annotations

from torch import Tensor

from dcao.operators.base import LinearOperator


class ShiftedOperator:
    """``A + shift * I``.

    Example:
        >>> import torch
        >>> from dcao.operators.base import MatrixOperator
        >>> ShiftedOperator(MatrixOperator(torch.eye(2)), 0.5).matvec(torch.ones(2))
        tensor([1.5000, 1.5000])
    """

    def __init__(self, operator: LinearOperator, shift: float) -> None:
        self.operator, self.shift = operator, shift
        self.size = operator.size
        self.device = operator.device
        self.dtype = operator.dtype

    def matvec(self, vector: Tensor) -> Tensor:
        """The product and the shift."""
        return self.operator.matvec(vector).add_(vector, alpha=self.shift)
