"""What DCAO has to know of an optimizer class, as data: `OptimizerModel`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from dcao.updates.dynamics import StepDynamics

Group = Mapping[str, Any]
State = Mapping[str, Any]  # of one parameter; empty before its first step
MutableState = MutableMapping[str, Any]


class NoPreconditionerYet(ValueError):
    """The optimizer has taken no step, so its state holds no preconditioner."""


# A function, not a lambda: a record is pickled with the optimizer that it describes.
def _no_correction(group: Group, state: State, coming: bool) -> float:
    return 1.0


@dataclass(frozen=True, kw_only=True)
class OptimizerModel:
    """What DCAO needs to know of one optimizer class.

    Every callable gets a param group and the state of one of its parameters (empty before the first step).

    Attributes:
        dynamics: The group's `StepDynamics` at the coming step.
        denominator: ``(group, state, grad)`` to the elementwise P without its first-moment correction; None
            is the identity. With the gradient as the optimizer sees it (coupled decay added): as the coming
            step would have it. With ``grad=None``: from the state as it is; `NoPreconditionerYet` before
            the first step. At least float32.
        first_moment_correction: ``(group, state, coming)`` to the factor of P that undoes the bias of the
            gradient average, at the coming step or at the last one; 1 where there is none.
        momentum_key: Entry of the group that holds the momentum (of ``betas`` the first), None without one.
        rescale_momentum: ``(group, state, old, new)``: changes the gradient average in place so that, at
            equal step size, a constant gradient gives steps of equal length before and after a change of
            momentum. Where the buffer sums, equal step size means that ``lr / (1 - momentum)`` is kept: the
            caller changes lr. None where there is no momentum.
    """

    dynamics: Callable[[Group, State], StepDynamics]
    denominator: Callable[[Group, State, Tensor | None], Tensor | None]
    first_moment_correction: Callable[[Group, State, bool], float] = _no_correction
    momentum_key: Literal["momentum", "betas"] | None = None
    rescale_momentum: Callable[[Group, MutableState, float, float], None] | None = None

    def preconditioner(self, group: Group, state: State, grad: Tensor | None = None) -> Tensor | None:
        """P with its first-moment correction, elementwise; None is the identity.

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
