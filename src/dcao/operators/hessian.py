"""The Hessian of a loss by double backward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dcao.isolation import RngState, capture_rng, keeping_autocast, leave_no_trace, model_modules
from dcao.operators.base import LinearOperator, LossFn, Unsupported, evaluate_loss
from dcao.vectors import flatten, trainable, unflatten, vector_dtype

# How torch (2.8 to 2.13) says that a second derivative does not exist. Anything else is the caller's own error.
_NO_SECOND_DERIVATIVE = (
    "derivative for",  # "... aten::_scaled_dot_product_flash_attention_for_cpu_backward is not implemented"
    "the derivative of",  # "... '_cudnn_rnn_backward' is not implemented"
    "donated buffers",  # "This backward function was compiled with non-empty donated buffers ..."
    "double backward",  # "torch.compile with aot_autograd does not currently support double backward"
)


class HessianOperator(LinearOperator):
    """Exact Hessian of the loss, one double backward a product.

    The graph of the gradient is built at the first need, with scaled-dot-product attention on its math backend (the
    fused kernels have no second derivative), and kept, so every product sees the same batch, dropout mask and
    parameters. While it is kept it holds the activations: ``close()`` or leaving the ``with`` block frees them.
    Building the graph leaves no trace on the model. Parameters must not change while the graph is in use.

    At a kink (ReLU) this is the second derivative of the pieces: finite differences also see the kinks.

    Args:
        loss_fn: Returns the scalar loss; evaluated under the autocast state of now.
        params: Parameters to differentiate by; those that require grad are used, each once. Parameters the loss does
            not use give zero rows.
        keep_graph: ``False`` builds the graph anew for every product: less memory between products, 1 more
            gradient evaluation each.
        modules: As for :func:`dcao.isolation.leave_no_trace`.
        rng_state: Random streams from which the loss is evaluated; default: the present ones.

    Raises:
        Unsupported: At the first product, if the loss has no second derivative in torch; at once for half-precision
            parameters.

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
        self.loss_fn = keeping_autocast(loss_fn)
        self.params = trainable(params)
        self.size = sum(p.numel() for p in self.params)
        self.device = self.params[0].device
        self.dtype = vector_dtype(self.params)
        if narrow := {p.dtype for p in self.params if p.dtype.itemsize < 4}:
            raise Unsupported(
                f"double backward through {', '.join(map(str, narrow))} parameters keeps 2-3 digits at best; "
                "finite differences run in float32 copies"
            )
        self.keep_graph = keep_graph
        self.reason = "double backward"
        self._modules = modules
        self._rng_state = rng_state if rng_state is not None else capture_rng(self.params)
        self._loss: Tensor | None = None
        self._gradient: Sequence[Tensor] = ()

    @property
    def loss(self) -> Tensor:
        """The loss at the present parameters, detached."""
        return self._build()[0].detach()

    @property
    def gradient(self) -> Tensor:
        """Its gradient, flat."""
        return flatten(self._build()[1], dtype=self.dtype)

    def matvec(self, vector: Tensor) -> Tensor:
        """Hessian times ``vector``."""
        _, gradient = self._build()
        # A gradient that is constant in the parameters has no graph, and contributes nothing.
        curved = [g.requires_grad for g in gradient]
        outputs = [g for g, keep in zip(gradient, curved, strict=True) if keep]
        if not outputs:
            return torch.zeros_like(vector)
        pieces = unflatten(vector, self.params)
        weights = [v for v, keep in zip(pieces, curved, strict=True) if keep]
        with explaining_unsupported():
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

    def _build(self) -> tuple[Tensor, Sequence[Tensor]]:
        if self._loss is None:
            if self._modules is None:
                self._modules = model_modules(self.params)
            isolated = leave_no_trace(self.params, modules=self._modules, rng_state=self._rng_state)
            with isolated, sdpa_kernel(SDPBackend.MATH), explaining_unsupported():
                self._loss = evaluate_loss(self.loss_fn)
                self._gradient = torch.autograd.grad(
                    self._loss, self.params, create_graph=True, allow_unused=True, materialize_grads=True
                )
            self.gradient_evaluations += 1.0
            if _differentiable_once(self._gradient):
                self.close()
                raise Unsupported("double backward failed: the graph holds a function marked @once_differentiable")
        return self._loss, self._gradient


def _differentiable_once(gradient: Sequence[Tensor]) -> bool:
    """Whether the gradient's graph holds torch's mark for that. ``autograd.grad`` walks past it and takes zero."""
    queue = [g.grad_fn for g in gradient]
    seen = set()
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            return True
        seen.add(node)
        queue.extend(following for following, _ in node.next_functions)
    return False


class explaining_unsupported:
    """Turns torch's "no second derivative" errors into :class:`Unsupported`; lets all others pass."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RuntimeError) and not isinstance(error, Unsupported):
            message = str(error)
            if any(sign in message for sign in _NO_SECOND_DERIVATIVE):
                raise Unsupported(f"double backward failed: {message.splitlines()[0]}") from error
