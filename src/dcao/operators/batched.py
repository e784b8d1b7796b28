"""The curvature of the mean loss over several batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from torch import Tensor

from dcao.operators.base import LinearOperator, LossFn, gradient_evaluations
from dcao.operators.hessian import HessianOperator
from dcao.vectors import trainable


class BatchedOperator(LinearOperator):
    """Weighted mean of operators, ``sum_i w_i A_i / sum_i w_i``.

    If each operator is of a mean loss and its weight is the batch size, this is the curvature of the mean loss over all
    batches together, whatever their sizes are.

    Raises:
        ValueError: There is no operator, a weight is missing or not positive, or the operators differ in size.

    Example:
        >>> import torch
        >>> from dcao.operators import MatrixOperator
        >>> three, one = (MatrixOperator(torch.eye(1) * c) for c in (1.0, 5.0))
        >>> BatchedOperator([three, one], [3, 1]).matvec(torch.ones(1))
        tensor([2.])
    """

    def __init__(self, operators: Sequence[LinearOperator], weights: Sequence[float]) -> None:
        if not operators:
            raise ValueError("operators must not be empty")
        if len(operators) != len(weights):
            raise ValueError(f"got {len(operators)} operators and {len(weights)} weights; give one weight for each")
        if not all(0.0 < w < math.inf for w in weights):
            raise ValueError(f"weights must be positive and finite (batch sizes), got {list(weights)}")
        if len({operator.size for operator in operators}) > 1:
            raise ValueError(f"operators must be of equal size, got {[operator.size for operator in operators]}")
        self.operators = list(operators)
        total = sum(weights)
        self.shares = [w / total for w in weights]
        self.size = operators[0].size
        self.device = operators[0].device
        self.dtype = operators[0].dtype
        self.layout = operators[0].layout
        self.kind, self.reason = operators[0].kind, operators[0].reason
        self._num_matvecs = 0

    @property
    def gradient_evaluations(self) -> float:
        """Cost in evaluations of the gradient on all batches: each operator counts by its share of the data."""
        costs = (gradient_evaluations(operator, self._num_matvecs) for operator in self.operators)
        return sum(share * cost for share, cost in zip(self.shares, costs, strict=True))

    def close(self) -> None:
        """Free what the operators keep."""
        for operator in self.operators:
            operator.close()

    def matvec(self, vector: Tensor) -> Tensor:
        """The weighted mean of the products with ``vector``."""
        self._num_matvecs += 1
        product = self.operators[0].matvec(vector) * self.shares[0]
        for operator, share in zip(self.operators[1:], self.shares[1:], strict=True):
            product.add_(operator.matvec(vector).to(product), alpha=share)
        return product


def batched_hessian(
    batches: Sequence[tuple[LossFn, int]], params: Iterable[Tensor], *, keep_graph: bool = True
) -> BatchedOperator:
    """Hessian of the mean loss over several batches, which may differ in size.

    Args:
        batches: Pairs of a ``loss_fn``, which returns the mean loss of a batch, and the size of that batch.
        params: Parameters to differentiate by; those that require grad are used.
        keep_graph: ``False`` holds the activations of one batch at a time, instead of all.

    Example:
        >>> import torch
        >>> w = torch.ones(1, requires_grad=True)
        >>> losses = [lambda: (w**2).sum(), lambda: 3 * (w**2).sum()]
        >>> batched_hessian([(losses[0], 3), (losses[1], 1)], [w]).matvec(torch.ones(1))
        tensor([3.])
    """
    params = trainable(params)
    operators = [HessianOperator(loss_fn, params, keep_graph=keep_graph) for loss_fn, _ in batches]
    return BatchedOperator(operators, [size for _, size in batches])
