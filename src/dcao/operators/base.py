"""What every curvature operator is, and the check that a loss can be differentiated at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from dcao.layout import WHOLE, Layout

LossFn = Callable[[], Tensor]
"""Returns the scalar loss with its graph; never calls ``backward`` (torch's *closure* does)."""


class LinearOperator(ABC):
    """A symmetric matrix known only through its products with vectors.

    A subclass sets ``size``, ``device`` and ``dtype`` and writes :meth:`matvec`. Everything else has a default.

    Attributes:
        size: Length of the vectors; of sharded parameters, that of what this process holds.
        layout: Where the entries of the vectors are. Default: all in this process.
        device: Where the vectors live.
        dtype: Their dtype.
        kind: How products are made: ``"exact"``, or by ``"central"`` or ``"forward"`` differences.
        reason: Why they are made this way, in words.

    Example:
        >>> class Diagonal(LinearOperator):
        ...     def __init__(self, entries: Tensor) -> None:
        ...         self.entries = entries
        ...         self.size, self.device, self.dtype = len(entries), entries.device, entries.dtype
        ...
        ...     def matvec(self, vector: Tensor) -> Tensor:
        ...         return self.entries * vector
        >>> from dcao import lanczos
        >>> lanczos(Diagonal(torch.tensor([1.0, 4.0]))).ritz_values.round(decimals=4)
        tensor([4.], dtype=torch.float64)
    """

    size: int
    layout: Layout = WHOLE
    device: torch.device
    dtype: torch.dtype
    kind: str = "exact"
    reason: str = ""

    @property
    def gradient_evaluations(self) -> float | None:
        """Cost so far, in units of one forward and one backward pass of the loss.

        Default: None. The operator does not count, and each product is taken to cost one.
        """
        return None

    @abstractmethod
    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector of shape ``(size,)``; leaves ``vector`` as it is."""

    def close(self) -> None:  # noqa: B027  (an operator that keeps nothing has nothing to free)
        """Free what is kept between products, such as a graph. Default: nothing is."""


class Unsupported(RuntimeError):
    """Torch cannot differentiate this loss twice; the message says why. Finite differences still work."""


class MatrixOperator(LinearOperator):
    """An explicit symmetric matrix as an operator.

    Example:
        >>> MatrixOperator(torch.diag(torch.tensor([1.0, 2.0]))).matvec(torch.ones(2))
        tensor([1., 2.])
    """

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"matrix must be square, got shape {tuple(matrix.shape)}")
        self.matrix = matrix
        self.size = matrix.shape[0]
        self.device = matrix.device
        self.dtype = matrix.dtype

    def matvec(self, vector: Tensor) -> Tensor:
        """Matrix times vector."""
        return self.matrix @ vector


class WrappedOperator(LinearOperator):
    """What operators around another one share: its size, device and dtype, its cost, and freeing what it keeps.

    Args:
        operator: The inner operator, which a subclass multiplies by through :meth:`_inner_matvec`.
    """

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator
        self.size, self.device, self.dtype = operator.size, operator.device, operator.dtype
        self.layout = operator.layout
        self._num_matvecs = 0

    @property
    def gradient_evaluations(self) -> float:
        """Cost of the inner operator; if that does not count, one gradient evaluation a product."""
        return gradient_evaluations(self.operator, self._num_matvecs)

    def close(self) -> None:
        """Free what the inner operator keeps."""
        self.operator.close()

    def _inner_matvec(self, vector: Tensor) -> Tensor:
        self._num_matvecs += 1
        return self.operator.matvec(vector)


def gradient_evaluations(operator: LinearOperator, num_matvecs: int) -> float:
    """What the operator has cost so far; if it does not count, one gradient evaluation a product."""
    if not isinstance(operator, LinearOperator):
        raise TypeError(
            f"operator must be a dcao.operators.LinearOperator, got {type(operator).__name__}; "
            "subclass it and write matvec, or wrap a matrix in MatrixOperator"
        )
    counted = operator.gradient_evaluations
    return float(num_matvecs if counted is None else counted)


def not_callable(loss_fn: object, name: str = "loss_fn") -> TypeError:
    """The error for a loss that was passed instead of a function that returns it."""
    return TypeError(f"{name} must be callable, got {type(loss_fn).__name__}; pass lambda: loss, not the loss")


def as_loss_fn(loss_fn: LossFn) -> LossFn:
    """Return ``loss_fn``; a TypeError if it cannot be called."""
    if not callable(loss_fn):
        raise not_callable(loss_fn)
    return loss_fn


def evaluate_loss(loss_fn: LossFn) -> Tensor:
    """The loss with its graph, refused at once if no curvature can come from it.

    Raises:
        TypeError: ``loss_fn`` is no function, or returned something other than a real floating-point tensor.
        ValueError: It returned more than one number, or a number without a graph.
    """
    loss = as_loss_fn(loss_fn)()
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
