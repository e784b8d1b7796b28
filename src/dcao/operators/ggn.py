"""The generalised Gauss-Newton matrix of a model and a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dcao.isolation import keeping_autocast, leave_no_trace, model_modules
from dcao.operators.base import LinearOperator, evaluate_loss
from dcao.operators.hessian import explaining_unsupported, refuse_shards
from dcao.vectors import flatten, sizes_of, trainable, unflatten, vector_dtype


class GGNOperator(LinearOperator):
    """Gauss-Newton matrix ``J' H_L J``: the Hessian without the curvature of the model.

    ``J`` is the Jacobian of the outputs in the parameters and ``H_L`` the Hessian of the loss in the outputs, so the
    matrix is positive semidefinite for a convex loss. ``J v`` is the derivative of ``J' u`` in ``u``, so reverse mode
    is enough. The graph is kept as in :class:`dcao.operators.HessianOperator`.

    Args:
        model_fn: Returns the outputs of the model on the batch.
        loss_fn: Returns the scalar loss of these outputs.
        params: Parameters to differentiate by; those that require grad are used, each once.
        modules: As for :func:`dcao.isolation.leave_no_trace`.

    Raises:
        ValueError: At the first product, if the outputs have no graph.
        Unsupported: The parameters are in shards.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> ggn = GGNOperator(lambda: w**2, lambda outputs: 0.5 * outputs.square().sum(), [w])
        >>> ggn.matvec(torch.ones(2))  # J = diag(2 w), H_L = I
        tensor([ 4., 16.])
    """

    gradient_evaluations: float = 0.0

    def __init__(
        self,
        model_fn: Callable[[], Tensor],
        loss_fn: Callable[[Tensor], Tensor],
        params: Iterable[Tensor],
        *,
        modules: Sequence[nn.Module] | None = None,
    ) -> None:
        self.params = trained = trainable(params)
        refuse_shards(trained)
        self._make_graph = keeping_autocast(lambda: _Graph(model_fn(), loss_fn, trained))
        self.size = sum(sizes_of(self.params))
        self.device = self.params[0].device
        self.dtype = vector_dtype(self.params)
        self._modules = modules
        self._graph: _Graph | None = None

    def matvec(self, vector: Tensor) -> Tensor:
        """The Gauss-Newton matrix times ``vector``, a flat vector of length ``size``."""
        self._graph = self._graph or self._build()
        graph, pieces = self._graph, unflatten(vector, self.params)
        with explaining_unsupported():
            (jacobian_product,) = torch.autograd.grad(
                graph.pullback, graph.cotangent, pieces, retain_graph=True, materialize_grads=True
            )
            curved = graph.output_gradient.requires_grad
            (weighted,) = (
                torch.autograd.grad(
                    graph.output_gradient,
                    graph.leaf,
                    jacobian_product,
                    retain_graph=True,
                    materialize_grads=True,
                )
                if curved
                else (torch.zeros_like(jacobian_product),)
            )
            product = torch.autograd.grad(
                graph.outputs,
                self.params,
                weighted,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        self.gradient_evaluations += 2.0
        return flatten(product, dtype=self.dtype)

    def close(self) -> None:
        """Free the graph; the next product builds it again."""
        self._graph = None

    def _build(self) -> _Graph:
        if self._modules is None:
            self._modules = model_modules(self.params)
        isolated = leave_no_trace(self.params, modules=self._modules)
        with isolated, sdpa_kernel(SDPBackend.MATH), explaining_unsupported():
            graph = self._make_graph()
        self.gradient_evaluations += 1.0
        return graph


class _Graph:
    """The graph of a product, in the order in which it is used: ``J' u``, ``u``, dL/doutputs, outputs."""

    def __init__(self, outputs: Tensor, loss_fn: Callable[[Tensor], Tensor], params: Sequence[Tensor]) -> None:
        if not isinstance(outputs, Tensor) or not outputs.requires_grad:
            raise ValueError("model_fn must return a tensor with a graph, computed from the parameters")
        self.outputs = outputs
        self.leaf = outputs.detach().requires_grad_()
        loss = evaluate_loss(lambda: loss_fn(self.leaf))
        (self.output_gradient,) = torch.autograd.grad(loss, self.leaf, create_graph=True)
        self.cotangent = torch.zeros_like(outputs, requires_grad=True)
        self.pullback = torch.autograd.grad(
            outputs, params, self.cotangent, create_graph=True, allow_unused=True, materialize_grads=True
        )
