"""First and second derivatives on the graph of the training step, and their cost.

Costs are in gradient evaluations (one forward and one backward pass), counted as ``dcao.operators`` counts them: on an
existing graph a product with the Hessian costs 2, and one with the Gauss-Newton matrix 2 (``J v`` and ``J' u``).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import dcao
from dcao.operators import LossFn

HESSIAN_PRODUCT_COST = 2.0
JACOBIAN_PRODUCT_COST = 1.0

# Parts of torch's messages about a missing second derivative; HessianOperator has the same list.
_NO_SECOND_DERIVATIVE = ("derivative for", "the derivative of", "donated buffers", "double backward")


def differentiable_gradient(loss_fn: LossFn, params: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The detached loss, and its gradient with a graph; the gradient of unused parameters is zero.

    ``backward(create_graph=True)`` would tie each parameter to the graph of its gradient, which torch warns about.
    Fused attention has no second derivative, so attention runs on its math backend.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        loss = loss_fn()
        gradient = torch.autograd.grad(loss, params, create_graph=True, allow_unused=True, materialize_grads=True)
    return loss.detach(), gradient


def hessian_product(
    loss_fn: LossFn, params: Sequence[Tensor], gradient: Sequence[Tensor], vector: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The Hessian times ``vector``; it frees the graph of ``gradient``.

    The product is made by double backward, or by central differences, at the same cost, if torch has no second
    derivative.
    """
    curved = [(g, v) for g, v in zip(gradient, vector, strict=True) if g.requires_grad]
    if not curved:
        return tuple(torch.zeros_like(v) for v in vector)
    outputs, weights = zip(*curved, strict=True)
    try:
        return torch.autograd.grad(outputs, params, weights, allow_unused=True, materialize_grads=True)
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _NO_SECOND_DERIVATIVE):
            raise
    operator = dcao.operators.FiniteDifferenceOperator(loss_fn, params)
    product = operator.matvec(torch.cat([v.reshape(-1) for v in vector]))
    pieces = torch.split(product, [p.numel() for p in params])
    return tuple(piece.view_as(p) for piece, p in zip(pieces, params, strict=True))


def gauss_newton_along_gradient(
    model: nn.Module, loss_fn: LossFn, params: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """The loss, its gradient ``g``, and ``g' G g`` for the Gauss-Newton matrix ``G`` of the batch.

    Let ``r`` be the gradient in the model's outputs. Then ``g = J' r``, and one more backward pass gives ``J g``, the
    derivative of ``J' r`` in ``r`` along ``g``. ``g' G g = (J g)' H_L (J g)`` does not need the other half of a product
    with ``G``.

    Raises:
        ValueError: The loss does not depend on exactly one output of the model that is a tensor.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        outputs, leaf, loss = _cut_at_output(model, loss_fn)
        (residual,) = torch.autograd.grad(loss, leaf, create_graph=True)
        cotangent = residual.detach().requires_grad_()
        gradient = torch.autograd.grad(
            outputs, params, cotangent, create_graph=True, allow_unused=True, materialize_grads=True
        )
        detached = tuple(g.detach() for g in gradient)
        (along,) = torch.autograd.grad(gradient, cotangent, detached, allow_unused=True, materialize_grads=True)
        curved = torch.zeros_like(along)
        if residual.requires_grad:
            (curved,) = torch.autograd.grad(residual, leaf, along, allow_unused=True, materialize_grads=True)
    return loss.detach(), detached, torch.sum(along * curved)


def _cut_at_output(model: nn.Module, loss_fn: LossFn) -> tuple[Tensor, Tensor, Tensor]:
    """The model's output with its graph, the detached leaf that replaces it, and the loss of that leaf."""
    outputs: list[object] = []

    def cut(module: nn.Module, inputs: object, output: object) -> object:
        outputs.append(output)
        return output.detach().requires_grad_() if isinstance(output, Tensor) else output

    leaves: list[object] = []
    handles = [
        model.register_forward_hook(cut),
        model.register_forward_hook(lambda module, inputs, output: leaves.append(output)),
    ]
    try:
        loss = loss_fn()
    finally:
        for handle in handles:
            handle.remove()
    if len(outputs) == 1 and isinstance(outputs[0], Tensor) and isinstance(leaves[0], Tensor):
        return outputs[0], leaves[0], loss
    kinds = ", ".join(type(output).__name__ for output in outputs)
    raise ValueError(f"the loss must be a function of one output of the model, a tensor, got {kinds or 'none'}")


def dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Inner product of two lists of tensors."""
    return torch.stack([torch.sum(a * b) for a, b in zip(one, other, strict=True)]).sum()
