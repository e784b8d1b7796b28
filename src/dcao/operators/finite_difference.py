"""Products with the Hessian of a loss, by finite differences of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Literal

import torch
from torch import Tensor, nn

from dcao.isolation import RngState, capture_rng, keeping_autocast, leave_no_trace, model_modules
from dcao.operators.base import LinearOperator, LossFn, evaluate_loss
from dcao.vectors import flatten, joint_norm, trainable, vector_dtype

DifferenceKind = Literal["central", "forward"]
GradientFn = Callable[[], Sequence[Tensor]]


class FiniteDifferenceOperator(LinearOperator):
    """Hessian of the loss by differences of gradients at parameters that are moved along the vector.

    ``"central"`` is ``(g(w + e v) - g(w - e v)) / 2e``, with 2 gradients for each product. ``"forward"`` is
    ``(g(w + e v) - g(w)) / e``, with 1 gradient for each product and 1 for the base, unless you give that one. Both
    need first derivatives only, so they work for compiled models, fused attention and closures. Every evaluation sees
    the same random streams (dropout mask), starts from the same buffers and leaves no trace. Parameters are restored
    bit for bit, also after an exception.

    The step length ``||e v||`` decides what is measured. On a smooth loss it trades rounding (``~1/e``) against the
    third derivative (``~e^2`` central, ``~e`` forward). For a ReLU network the result is the average curvature over
    this length, kinks included, and a step that is too short measures noise. :func:`default_step_length` is one natural
    choice, and the length of the optimizer's step is the other.

    Half-precision parameters are evaluated in float32 copies. Under autocast gradients are rounded to 8 or 11 bits, so
    use a longer step there.

    Args:
        loss_fn: Returns the scalar loss; evaluated under the autocast state at construction. Give it or
            ``gradient_fn``.
        params: Parameters to differentiate by; those that require grad are used, each once.
        gradient_fn: Returns the gradients at the present values of ``params``, one for each of them that requires grad
            (what a training closure leaves in ``.grad``). Any change that it makes to ``.grad`` is undone. It runs
            under the autocast state at the time of each product.
        kind: ``"central"`` or ``"forward"``.
        step_length: Euclidean length of the displacement; default :func:`default_step_length`.
        base_gradient: Flat gradient at the present parameters, if already known (``"forward"`` only). If the loss is
            random, also give the ``rng_state`` from which it was evaluated.
        modules: As for :func:`dcao.isolation.leave_no_trace`.
        rng_state: Random streams from which every evaluation starts; default: the present ones.

    Attributes:
        gradient_evaluations: Number of gradients evaluated so far.

    Raises:
        ValueError: An argument is wrong; or, in a product, ``gradient_fn`` returns the wrong number of gradients, or
            the loss cannot run in float32 copies of half-precision parameters.

    Example:
        >>> w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        >>> hessian = FiniteDifferenceOperator(lambda: (w**3).sum(), [w])
        >>> hessian.matvec(torch.ones(2, dtype=torch.float64)).round(decimals=6)
        tensor([ 6., 12.], dtype=torch.float64)
    """

    gradient_evaluations: float = 0.0

    def __init__(
        self,
        loss_fn: LossFn | None = None,
        params: Iterable[Tensor] = (),
        *,
        gradient_fn: GradientFn | None = None,
        kind: DifferenceKind = "central",
        step_length: float | None = None,
        base_gradient: Tensor | None = None,
        modules: Sequence[nn.Module] | None = None,
        rng_state: RngState | None = None,
    ) -> None:
        if (loss_fn is None) == (gradient_fn is None):
            raise ValueError("give exactly one of loss_fn and gradient_fn")
        if kind not in ("central", "forward"):
            raise ValueError(f'kind must be "central" or "forward", got {kind!r}')
        if step_length is not None and not 0.0 < step_length < float("inf"):
            raise ValueError(f"step_length must be positive and finite, got {step_length}")
        self.params = trainable(params)
        self.size = sum(p.numel() for p in self.params)
        self.device = self.params[0].device
        self.dtype = vector_dtype(self.params)
        if base_gradient is not None and base_gradient.shape != (self.size,):
            raise ValueError(f"base_gradient must have shape ({self.size},), got {tuple(base_gradient.shape)}")
        self.kind = kind
        self.step_length = step_length if step_length is not None else default_step_length(self.params, kind)
        self.reason = f"{kind} finite differences, step length {self.step_length:.3g}"
        if loss_fn is not None:
            gradient_fn = keeping_autocast(_differentiating(loss_fn, self.params))
        assert gradient_fn is not None
        self._gradient_fn = gradient_fn
        self._base_gradient = base_gradient
        self._modules = modules
        self._rng_state = rng_state if rng_state is not None else capture_rng(self.params)

    def matvec(self, vector: Tensor) -> Tensor:
        """The Hessian times ``vector``, a flat vector of length ``size``, up to the error of the difference."""
        norm = float(torch.linalg.vector_norm(vector))
        if norm == 0.0:
            return torch.zeros_like(vector)
        scale = self.step_length / norm
        if self.kind == "forward":
            base = self.gradient
            return self._gradient_at(vector, scale).sub_(base).div_(scale)
        product = self._gradient_at(vector, scale)
        return product.sub_(self._gradient_at(vector, -scale)).div_(2.0 * scale)

    def with_step_length(self, step_length: float) -> FiniteDifferenceOperator:
        """The same operator with differences of another length; its cost is counted from 0."""
        twin = copy(self)
        twin.step_length, twin.gradient_evaluations = step_length, 0.0
        return twin

    @property
    def gradient(self) -> Tensor:
        """The gradient at the present parameters as one flat vector; evaluated once, then kept."""
        if self._base_gradient is None:
            self._base_gradient = self._gradient_at(None, 0.0)
        return self._base_gradient

    def _gradient_at(self, direction: Tensor | None, scale: float) -> Tensor:
        if self._modules is None:
            self._modules = model_modules(self.params)
        self.gradient_evaluations += 1.0
        isolated = leave_no_trace(self.params, modules=self._modules, rng_state=self._rng_state)
        with isolated, _moved(self.params, direction, scale):
            gradients = self._gradient_fn()
        if len(gradients) != len(self.params):
            raise ValueError(
                f"gradient_fn must return one gradient for each of the {len(self.params)} parameters that require "
                f"grad, got {len(gradients)}"
            )
        # Here and not above, because the copy of the parameters is freed by now, and this can take its memory.
        return flatten(gradients, dtype=self.dtype, device=self.device)


def _differentiating(loss_fn: LossFn, params: Sequence[Tensor]) -> GradientFn:
    # Not a method: a bound one makes a reference cycle, which holds the batch in loss_fn until it is collected.
    return lambda: torch.autograd.grad(evaluate_loss(loss_fn), params, allow_unused=True, materialize_grads=True)


def default_step_length(params: Sequence[Tensor], kind: DifferenceKind = "central") -> float:
    """Step length for a smooth loss: ``max(1, ||w||)**(1/2)`` times ``u**(1/3)`` central or ``u**(1/2)`` forward.

    ``u`` is the unit roundoff of the precision in which the loss is evaluated (float32 for narrower parameters), and
    ``||w||`` the length of all parameters. The powers of ``u`` balance rounding ``~u/e`` against truncation ``~e^2``
    (or ``~e``). The factor is the geometric mean of 1 and ``||w||``, between which the best lengths were measured.

    In float32 that is 6e-3..1e-2 (central, relative error 2e-5..4e-5) and 4e-4..7e-4 (forward, 6e-4..1.4e-3) on the
    networks of ``benchmarks/step_length.py``, where no length has an error that is smaller by more than a factor of 3.

    Example:
        >>> default_step_length([torch.ones(100)])  # ||w|| = 10
        0.01...
    """
    unit_roundoff = torch.finfo(vector_dtype(params)).eps / 2
    return float(unit_roundoff ** (1 / 3 if kind == "central" else 1 / 2) * max(1.0, joint_norm(params)) ** 0.5)


@contextmanager
def _moved(params: Sequence[Tensor], direction: Tensor | None, scale: float) -> Iterator[None]:
    """Context in which the parameters are at ``w + scale * direction``; they are put back bit for bit.

    They are written through ``.data``, which leaves the version counters alone, so graphs that hold the parameters stay
    valid. Float32 and float64 parameters are moved in place, so that views and compiled code that hold their memory see
    the move. Narrower ones, in which the step would be lost to rounding, are replaced by moved float32 copies.
    """
    originals = [p.data for p in params]
    narrow = [p.dtype.itemsize < 4 for p in params]
    saved = [
        data if is_narrow or direction is None else data.clone()
        for data, is_narrow in zip(originals, narrow, strict=True)
    ]
    pieces = _split(direction, params)
    try:
        for p, piece, is_narrow in zip(params, pieces, narrow, strict=True):
            if is_narrow:
                p.data = p.data.float()
            if piece is not None:
                p.data.add_(piece.to(device=p.device, dtype=p.dtype), alpha=scale)
        yield
    except RuntimeError as error:
        if any(narrow) and "dtype" in str(error):
            raise ValueError(
                f"half-precision parameters are measured in float32 copies, and loss_fn cannot run in them ({error}); "
                "keep float32 parameters and use autocast, or cast the inputs to the parameters' dtype inside loss_fn"
            ) from error
        raise
    finally:
        for p, data, copy, is_narrow in zip(params, originals, saved, narrow, strict=True):
            if is_narrow:
                p.data = data
            elif direction is not None:
                p.data.copy_(copy)


def _split(direction: Tensor | None, params: Sequence[Tensor]) -> Sequence[Tensor | None]:
    if direction is None:
        return [None] * len(params)
    sizes = [p.numel() for p in params]
    return [piece.view(p.shape) for piece, p in zip(torch.split(direction, sizes), params, strict=True)]
