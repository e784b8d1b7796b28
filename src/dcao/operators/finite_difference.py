"""Products with the Hessian of a loss, by finite differences of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from typing import Literal

import torch
from torch import Tensor, nn

from dcao.blocks import Entrywise, Vector, blocks, cut, joined
from dcao.isolation import RngState, capture_rng, keeping_autocast, leave_no_trace, model_modules
from dcao.layout import layout_of
from dcao.operators.base import LinearOperator, LossFn, as_loss_fn, evaluate_loss
from dcao.operators.differentiation import Differentiation, again_if_refused
from dcao.operators.lifting import lifted, require_liftable
from dcao.operators.moving import moved
from dcao.operators.precision import coarsest_half, is_half
from dcao.sums import joint_length
from dcao.vectors import DEFAULT_SEED, seeded, sizes_of, trainable, vector_dtype

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

    A loss with half-precision parameters is lifted: they are evaluated in float32 copies, and so is all that is
    computed from them. Where that fails (a kernel that takes half precision alone, no memory), it is evaluated as it
    is, with a longer step and randomly rounded displacements; :attr:`reason` says why. The longer step is also right
    for float32 parameters whose loss is computed in half precision, as under autocast: see ``precision``.

    Args:
        loss_fn: Returns the scalar loss; evaluated under the autocast state at construction. Give it or
            ``gradient_fn``.
        params: Parameters to differentiate by; those that require grad are used, each once.
        gradient_fn: Returns the gradients at the present values of ``params``, one for each of them that requires grad
            (what a training closure leaves in ``.grad``). Any change that it makes to ``.grad`` is undone. It runs
            under the autocast state at the time of each product.
        kind: ``"central"`` or ``"forward"``.
        step_length: Euclidean length of the displacement; default :func:`default_step_length`.
        base_gradient: Gradient at the present parameters, flat or in blocks, if already known (``"forward"`` only; too
            coarse, and evaluated again, if half-precision parameters are lifted). If the loss is random, also give the
            ``rng_state`` from which it was evaluated.
        modules: As for :func:`dcao.isolation.leave_no_trace`.
        rng_state: Random streams from which every evaluation starts; default: the present ones.
        precision: Half-precision dtype in which the loss is computed although the parameters are wider, for example
            that of autocast; it makes the default step longer. Default: none.
        why_not_lifted: Why half-precision parameters shall not be lifted, if that is known. Default: they are.

    Attributes:
        gradient_evaluations: Number of gradients evaluated so far.
        computes_in: Half-precision dtype from which the products come; None where they come from float32 or wider.
        precision_note: How half precision is dealt with, in words; empty if there is none.
        why_not_lifted: Why half-precision parameters are not lifted; empty if they are.

    Raises:
        ValueError: An argument is wrong; or, in a product, ``gradient_fn`` returns the wrong number of gradients.

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
        base_gradient: Tensor | Vector | None = None,
        modules: Sequence[nn.Module] | None = None,
        rng_state: RngState | None = None,
        precision: torch.dtype | None = None,
        why_not_lifted: str = "",
    ) -> None:
        if (loss_fn is None) == (gradient_fn is None):
            raise ValueError("give exactly one of loss_fn and gradient_fn")
        if kind not in ("central", "forward"):
            raise ValueError(f'kind must be "central" or "forward", got {kind!r}')
        if step_length is not None and not 0.0 < step_length < float("inf"):
            raise ValueError(f"step_length must be positive and finite, got {step_length}")
        self.params = trainable(params)
        self.size, self.layout = sum(sizes_of(self.params)), layout_of(self.params)
        self.device = self.params[0].device
        self.dtype = vector_dtype(self.params)
        if isinstance(base_gradient, Tensor):
            if base_gradient.shape != (self.size,):
                raise ValueError(f"base_gradient must have shape ({self.size},), got {tuple(base_gradient.shape)}")
            base_gradient = cut(base_gradient, self.params)
        self.kind: DifferenceKind = kind
        if loss_fn is not None:
            gradient_fn = keeping_autocast(_differentiating(as_loss_fn(loss_fn), self.params))
        assert gradient_fn is not None
        self._gradient_fn = gradient_fn
        self._modules = modules
        self._rng_state = rng_state if rng_state is not None else capture_rng(self.params)
        self._generator = seeded(DEFAULT_SEED)
        self._lifts, self.computes_in = any(map(is_half, self.params)), precision
        self._given_gradient = base_gradient
        self._base_gradient = None if self._lifts else base_gradient
        self.step_length = step_length or default_step_length(
            self.params, kind, precision=None if self._lifts else precision
        )
        self.why_not_lifted = self.precision_note = ""
        if self._lifts and why_not_lifted:
            self._stop_lifting(why_not_lifted)
        elif self._lifts:
            self.computes_in, self.precision_note = None, "half precision is evaluated in float32"
        elif precision is not None:
            name = "torch.float16 or TF32" if precision is torch.float16 else str(precision)
            self.precision_note = f"the loss is computed in {name}, so it is measured over a longer step"
        self._describe()

    def matvec(self, vector: Tensor) -> Tensor:
        """The Hessian times ``vector``, a flat vector of length ``size``, up to the error of the difference."""
        norm = float(self.layout.norm(vector))
        if norm == 0.0:
            return torch.zeros_like(vector)
        return self._flat(self.product(cut(vector, self.params), norm))

    def product(self, vector: Vector, norm: float, *, side: float = 1.0) -> Vector:
        """The same for a vector in blocks, of length ``norm``: the product is made where it is read.

        Args:
            vector: Over the parameters.
            norm: Its length, which is not 0.
            side: -1.0 takes a one-sided difference at the parameters minus the vector.
        """
        return self._lifted_if_possible(lambda: self._difference(vector, norm, side))

    def with_step_length(self, step_length: float) -> FiniteDifferenceOperator:
        """The same operator with differences of another length; its cost is counted from 0."""
        twin = copy(self)
        twin.step_length, twin.gradient_evaluations = step_length, 0.0
        return twin

    @property
    def gradient(self) -> Tensor:
        """The gradient at the present parameters as one flat vector; evaluated once, then kept."""
        return self._flat(self.base())

    def base(self) -> Vector:
        """The same in blocks."""
        return self._lifted_if_possible(self._base)

    def _flat(self, vector: Vector) -> Tensor:
        return joined(vector, self.params, dtype=self.dtype, device=self.device)

    def _lifted_if_possible(self, evaluate: Callable[[], Vector]) -> Vector:
        if self._lifts:
            try:
                require_liftable(self._reached_modules())
                return evaluate()
            except Exception as error:  # whatever a loss may raise because its tensors are float32
                self._stop_lifting(f"{type(error).__name__}: {error}".splitlines()[0])
        return evaluate()

    def _base(self) -> Vector:
        if self._base_gradient is None:
            self._base_gradient = self._gradient_at(None, 0.0)[0]
        return self._base_gradient

    def _difference(self, vector: Vector, norm: float, side: float) -> Vector:
        scale = side * self.step_length / norm
        if self.kind == "forward":
            base, behind = self._base(), 0.0
            gradient, ahead = self._gradient_at(vector, scale)
        else:
            gradient, ahead = self._gradient_at(vector, scale)
            base, behind = self._gradient_at(vector, -scale)
        return Entrywise(lambda there, here: (there - here).div_(ahead - behind), gradient, base)

    def _stop_lifting(self, why: str) -> None:
        """Evaluate the loss in its own precision from now on."""
        self.why_not_lifted = why
        self._lifts, self._base_gradient = False, self._given_gradient
        self.computes_in = precision = coarsest_half({p.dtype for p in self.params})
        self.step_length = max(self.step_length, default_step_length(self.params, self.kind, precision=precision))
        self.precision_note = f"measured in {precision} over a longer step, because float32 fails ({why})"
        self._describe()

    def _describe(self) -> None:
        made = f"{self.kind} finite differences, step length {self.step_length:.3g}"
        self.reason = "; ".join(part for part in (made, self.precision_note) if part)

    def _gradient_at(self, direction: Vector | None, scale: float) -> tuple[Vector, float]:
        """The gradient at ``w + scale * direction``, or as near to it as rounding allows, and the scale reached."""
        modules = self._reached_modules()

        def evaluate() -> tuple[Sequence[Tensor], float]:
            self.gradient_evaluations += 1.0
            isolated = leave_no_trace(self.params, modules=modules, rng_state=self._rng_state)
            with isolated, self._at(direction, scale) as reached:
                return self._gradient_fn(), reached

        gradients, reached = again_if_refused(evaluate)
        if len(gradients) != len(self.params):
            raise ValueError(
                f"gradient_fn must return one gradient for each of the {len(self.params)} parameters that require "
                f"grad, got {len(gradients)}"
            )
        return blocks(gradients, dtype=self.dtype), reached

    @contextmanager
    def _at(self, direction: Vector | None, scale: float) -> Iterator[float]:
        moves: AbstractContextManager[float] = nullcontext(scale)
        if direction is not None:
            moves = moved(self.params, direction, scale, self._generator, leaves_half=self._lifts, layout=self.layout)
        with moves as reached:
            if not self._lifts:
                yield reached
                return
            with lifted(self.params, direction, scale, self._reached_modules()):
                yield reached

    def _reached_modules(self) -> Sequence[nn.Module]:
        if self._modules is None:
            self._modules = model_modules(self.params)
        return self._modules


def _differentiating(loss_fn: LossFn, params: Sequence[Tensor]) -> GradientFn:
    # Not a method: a bound one makes a reference cycle, which holds the batch in loss_fn until it is collected.
    differentiation = Differentiation()
    return lambda: differentiation.gradient(evaluate_loss(loss_fn), params)


def default_step_length(
    params: Sequence[Tensor], kind: DifferenceKind = "central", *, precision: torch.dtype | None = None
) -> float:
    """Step length for a smooth loss: ``max(1, ||w||)**(1/2)`` times ``u**(1/3)`` central or ``u**(1/2)`` forward.

    ``u`` is the unit roundoff of the precision in which the loss is evaluated (float32 for narrower parameters), and
    ``||w||`` the length of all parameters. The powers of ``u`` balance rounding ``~u/e`` against truncation ``~e^2``
    (or ``~e``). The factor is the geometric mean of 1 and ``||w||``, between which the best lengths were measured.

    If the loss is computed in half precision, give that ``precision``. The powers are then 7/8 and 3/4: for bfloat16
    with ``||w|| = 10`` 0.025 and 0.049. The balance above would ask for longer steps, which leave the quadratic region,
    while the roundings of many entries average out (``benchmarks/half_precision.py``).

    In float32 that is 6e-3..1e-2 (central, relative error 2e-5..4e-5) and 4e-4..7e-4 (forward, 6e-4..1.4e-3) on the
    networks of ``benchmarks/step_length.py``, where no length has an error that is smaller by more than a factor of 3.

    Example:
        >>> default_step_length([torch.ones(100)])  # ||w|| = 10
        0.01...
    """
    return step_length_at(joint_length(params), params, kind, precision=precision)


def step_length_at(
    norm: float, params: Sequence[Tensor], kind: DifferenceKind, *, precision: torch.dtype | None = None
) -> float:
    """:func:`default_step_length` of ``params`` if they were of length ``norm``."""
    unit_roundoff = torch.finfo(precision or vector_dtype(params)).eps / 2
    central, forward = (1 / 3, 1 / 2) if precision is None else (7 / 8, 3 / 4)
    return float(unit_roundoff ** (central if kind == "central" else forward) * max(1.0, norm) ** 0.5)
