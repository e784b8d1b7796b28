"""`OptimizerModel`: what DCAO has to know about a class of optimizers, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from dcao.updates.dynamics import StepDynamics

Group = Mapping[str, Any]
ParamState = Mapping[str, Any]  # of one parameter; empty before its first step
MutableParamState = MutableMapping[str, Any]


class NoPreconditionerYet(ValueError):
    """The optimizer has taken no step, so its state holds no preconditioner."""


# A function and not a lambda, because a record is pickled with the optimizer that it describes.
def _no_correction(group: Group, state: ParamState, coming: bool) -> float:
    return 1.0


@dataclass(frozen=True, kw_only=True)
class OptimizerModel:
    """What DCAO needs to know about one class of optimizers.

    Every callable gets a param group and the state of one of its parameters, which is empty before the first step.

    Attributes:
        dynamics: ``(group, state)`` to the group's `StepDynamics` at the coming step.
        denominator: ``(group, state, grad)`` to the elementwise P without its first-moment correction, in float32
            or wider; None stands for the identity. ``grad`` is the gradient that the optimizer sees, coupled
            decay added, and P is that of the coming step. Probes always pass it. With ``grad=None`` (only
            :meth:`preconditioner` called without one) P comes from the state as it is, and before the first step
            the function raises `NoPreconditionerYet`.
        first_moment_correction: ``(group, state, coming)`` to the factor of P that undoes the bias of the
            gradient average, at the coming step (``coming=True``) or at the last one; 1 if there is none.
        is_entrywise: Whether an entry of P depends on nothing but the same entry of ``grad`` and of those tensors of
            the state that have its shape, so that P can be made part by part, without memory for all in between.
        momentum_key: Entry of the group that holds the momentum (of ``betas`` the first); None without momentum.
        rescale_momentum: ``(group, state, old, new)``: changes the gradient average in place so that, at
            equal step size, a constant gradient gives steps of equal length before and after a change of
            momentum. If the buffer sums, equal step size means that ``lr / (1 - momentum)`` is kept, and the
            caller changes lr. None without momentum.
    """

    dynamics: Callable[[Group, ParamState], StepDynamics]
    denominator: Callable[[Group, ParamState, Tensor | None], Tensor | None]
    first_moment_correction: Callable[[Group, ParamState, bool], float] = _no_correction
    is_entrywise: bool = False
    momentum_key: Literal["momentum", "betas"] | None = None
    rescale_momentum: Callable[[Group, MutableParamState, float, float], None] | None = None

    def preconditioner(self, group: Group, state: ParamState, grad: Tensor | None = None) -> Tensor | None:
        """P with its first-moment correction, elementwise; None stands for the identity.

        Example:
            >>> import torch
            >>> from dcao.updates.registry import optimizer_model
            >>> weight = torch.nn.Parameter(torch.zeros(2))
            >>> adam = torch.optim.Adam([weight], betas=(0.9, 0.99), eps=0.0)
            >>> model, group = optimizer_model(adam), adam.param_groups[0]
            >>> model.preconditioner(group, {}, grad=torch.tensor([1.0, -3.0]))  # (1 - 0.9) * |g|
            tensor([0.1000, 0.3000])
        """
        denominator = self.denominator(group, state, grad)
        if denominator is None:
            return None
        return denominator * self.first_moment_correction(group, state, grad is not None)
