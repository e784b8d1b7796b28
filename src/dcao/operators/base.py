"""What every curvature operator is, and the check that a loss can be differentiated at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

LossFn = Callable[[], Tensor]
"""Returns the scalar loss with its graph; never calls ``backward`` (torch's *closure* does)."""


class LinearOperator(Protocol):
    """A symmetric matrix known only through its products with vectors.

    An operator may also have ``gradient_evaluations``: what it has cost so far, in units of one forward and one
    backward pass of its loss. :func:`gradient_evaluations` reads it.
    """

    @property
    def size(self) -> int:
        """Length of the vectors."""

    @property
    def device(self) -> torch.device:
        """Where the vectors live."""

    @property
    def dtype(self) -> torch.dtype:
        """Their dtype."""

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector of shape ``(size,)``; leaves ``vector`` as it is."""


class Unsupported(RuntimeError):
    """Torch cannot differentiate this loss twice; the message says why. Finite differences still work."""


class MatrixOperator:
    """An explicit symmetric matrix as an operator.

    Example:
        >>> MatrixOperator(torch.diag(torch.tensor([1.0, 2.0]))).matvec(torch.ones(2))
        tensor([1., 2.])
    """

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"matrix must be square, got shape {tuple(matrix.shape)}")
        self.matrix = matrix
        self.size: int = matrix.shape[0]
        self.device = matrix.device
        self.dtype = matrix.dtype

    def matvec(self, vector: Tensor) -> Tensor:
        """Matrix times vector."""
        return self.matrix @ vector


def gradient_evaluations(operator: LinearOperator, num_matvecs: int) -> float:
    """What the operator has cost so far; where it does not say, one gradient evaluation a product."""
    return float(getattr(operator, "gradient_evaluations", num_matvecs))


def evaluate_loss(loss_fn: LossFn) -> Tensor:
    """The loss with its graph, refused at once if no curvature can come from it.

    Raises:
        TypeError: ``loss_fn`` returned something other than a real floating-point tensor.
        ValueError: It returned more than one number, or a number without a graph.
    """
    loss = loss_fn()
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"loss_fn must return a tensor, got {type(loss).__name__}; return the loss alone, without .item()"
        )
    if loss.numel() != 1:
        raise ValueError(
            f"loss_fn must return a scalar, got shape {tuple(loss.shape)}; reduce it, for example with .mean()"
        )
    if not loss.dtype.is_floating_point:
        raise TypeError(f"loss_fn must return a real floating-point loss, got {loss.dtype}")
    if not loss.requires_grad:
        raise ValueError(
            "loss_fn returned a loss without a graph; compute it from the parameters, "
            "not under torch.no_grad() and without .detach()"
        )
    return loss.reshape(())
