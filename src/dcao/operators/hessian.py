"""Products with the exact Hessian of a loss, by double backward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dcao.isolation import RngState, capture_rng, keeping_autocast, leave_no_trace, model_modules
from dcao.operators.base import LinearOperator, LossFn, Unsupported, as_loss_fn, evaluate_loss
from dcao.operators.differentiation import has_custom_function
from dcao.operators.graph import graph_nodes
from dcao.shards import is_shard
from dcao.vectors import flatten, sizes_of, trainable, unflatten, vector_dtype

# Parts of the messages by which torch (2.8 to 2.13) says that a second derivative does not exist. Any other error is
# the caller's own.
_NO_SECOND_DERIVATIVE = (
    "derivative for",  # "... aten::_scaled_dot_product_flash_attention_for_cpu_backward is not implemented"
    "the derivative of",  # "... '_cudnn_rnn_backward' is not implemented"
    "donated buffers",  # "This backward function was compiled with non-empty donated buffers ..."
    "double backward",  # "torch.compile with aot_autograd does not currently support double backward"
    "compatible with .grad()",  # re-entrant checkpointing, torch's and others'
    # Of state that the loss moves and then uses, where it cannot be swapped for a copy: it is put back under the graph.
    "modified by an inplace operation",
)


class HessianOperator(LinearOperator):
    """Exact Hessian of the loss, with one double backward for each product.

    The first product builds the graph of the gradient, with scaled-dot-product attention on its math backend, because
    the fused kernels have no second derivative. The graph is kept, so every product sees the same batch, dropout mask
    and parameters. It holds the activations until ``close()`` or the end of the ``with`` block. Building it leaves no
    trace on the model. Parameters must not change while it is in use.

    At a kink (ReLU) this is the second derivative of the smooth pieces; finite differences also see the kinks.

    Args:
        loss_fn: Returns the scalar loss; evaluated under the autocast state at construction.
        params: Parameters to differentiate by; those that require grad are used, each once. Parameters that the loss
            does not use give zero rows.
        keep_graph: ``False`` builds the graph again for every product, which takes less memory between products and 1
            more gradient evaluation for each.
        modules: As for :func:`dcao.isolation.leave_no_trace`.
        rng_state: Random streams from which the loss is evaluated; default: the present ones.

    Attributes:
        gradient_evaluations: Cost so far: 1 for the graph and 2 for each product.

    Raises:
        Unsupported: At the first product, if the loss has no second derivative in torch; at construction, for
            parameters in half precision or in shards.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> with HessianOperator(lambda: (w**3).sum(), [w]) as hessian:
        ...     hessian.matvec(torch.ones(2))
        tensor([ 6., 12.])
    """

    gradient_evaluations: float = 0.0

    def __init__(
        self,
        loss_fn: LossFn,
        params: Iterable[Tensor],
        *,
        keep_graph: bool = True,
        modules: Sequence[nn.Module] | None = None,
        rng_state: RngState | None = None,
    ) -> None:
        self.loss_fn = keeping_autocast(as_loss_fn(loss_fn))
        self.params = trainable(params)
        self.size = sum(sizes_of(self.params))
        self.device = self.params[0].device
        self.dtype = vector_dtype(self.params)
        if narrow := {p.dtype for p in self.params if p.dtype.itemsize < 4}:
            raise Unsupported(
                f"double backward through {', '.join(map(str, narrow))} parameters keeps 2-3 digits at best; "
                "finite differences run in float32 copies"
            )
        refuse_shards(self.params)
        self.keep_graph = keep_graph
        self.reason = "double backward"
        self._modules = modules
        self._rng_state = rng_state if rng_state is not None else capture_rng(self.params)
        self._loss: Tensor | None = None
        self._gradient: Sequence[Tensor] = ()

    @property
    def loss(self) -> Tensor:
        """The loss at the present parameters, detached; builds the graph if there is none."""
        return self._build()[0].detach()

    @property
    def gradient(self) -> Tensor:
        """The gradient of the loss as one flat vector; builds the graph if there is none."""
        return flatten(self._build()[1], dtype=self.dtype)

    def matvec(self, vector: Tensor) -> Tensor:
        """The Hessian times ``vector``, a flat vector of length ``size``."""
        _, gradient = self._build()
        # A gradient that does not depend on the parameters has no graph, and contributes nothing.
        curved = [g.requires_grad for g in gradient]
        outputs = [g for g, keep in zip(gradient, curved, strict=True) if keep]
        if not outputs:
            return torch.zeros_like(vector)
        pieces = unflatten(vector, self.params)
        weights = [v for v, keep in zip(pieces, curved, strict=True) if keep]
        with self._leaving_no_trace(), explaining_unsupported():  # hooks of the user's run in it
            product = torch.autograd.grad(
                outputs,
                self.params,
                grad_outputs=weights,
                retain_graph=self.keep_graph,
                allow_unused=True,
                materialize_grads=True,
            )
        self.gradient_evaluations += 2.0
        if not self.keep_graph:
            self.close()
        return flatten(product, dtype=self.dtype)

    def close(self) -> None:
        """Free the graph; the next product builds it again, at the parameters of that moment."""
        self._loss, self._gradient = None, ()

    def __enter__(self) -> HessianOperator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _leaving_no_trace(self) -> AbstractContextManager[None]:
        if self._modules is None:
            self._modules = model_modules(self.params)
        return leave_no_trace(self.params, modules=self._modules, rng_state=self._rng_state)

    def _build(self) -> tuple[Tensor, Sequence[Tensor]]:
        if self._loss is None:
            with self._leaving_no_trace(), sdpa_kernel(SDPBackend.MATH), explaining_unsupported():
                self._loss = evaluate_loss(self.loss_fn)
                found = torch.autograd.grad(self._loss, self.params, create_graph=True, allow_unused=True)
                hides = any(p.grad is not None for p in self.params)
            hides = hides or (any(g is None for g in found) and has_custom_function(self._loss))
            self._gradient = [torch.zeros_like(p) if g is None else g for g, p in zip(found, self.params, strict=True)]
            self.gradient_evaluations += 1.0
            if hides:
                self.close()
                raise Unsupported("double backward failed: a function in the graph may hide parameters from it")
            if _differentiable_once(self._gradient):
                self.close()
                raise Unsupported("double backward failed: the graph holds a function marked @once_differentiable")
        return self._loss, self._gradient


def refuse_shards(params: Sequence[Tensor]) -> None:
    """Raise :class:`Unsupported` for parameters of which this process holds a part."""
    if any(map(is_shard, params)):
        raise Unsupported("double backward does not pass through the hooks that gather sharded parameters")


def _differentiable_once(gradient: Sequence[Tensor]) -> bool:
    """Whether the graph has a function that is marked ``@once_differentiable``.

    ``torch.autograd.grad`` does not raise there: it would treat the second derivative as zero.
    """
    return any(node.name() == "torch::autograd::Error" for node in graph_nodes(*gradient))


class explaining_unsupported:
    """Context that turns torch's errors about a missing second derivative into :class:`Unsupported`."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RuntimeError) and not isinstance(error, Unsupported):
            message = str(error)
            if any(sign in message for sign in _NO_SECOND_DERIVATIVE):
                raise Unsupported(f"double backward failed: {message.splitlines()[0]}") from error
