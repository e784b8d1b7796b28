"""Loops of the user's own around which a library puts wrappers: what the optimizer's wrapper gets from DCAO."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

from torch import Tensor

from dcao.loop.passes import FollowedPass, forward_pass
from dcao.operators.base import LossFn, evaluate_loss
from dcao.optimizer import DCAO
from dcao.state.origins import names_of
from dcao.state.places import Cell, Names, Place


class BackwardOfLosses:
    """The method ``backward(loss_fn)`` of an optimizer, in place of the ``backward(loss)`` of a library.

    Attributes:
        optimizer: The DCAO inside.
    """

    optimizer: DCAO
    _followed: FollowedPass | None = None

    def backward(self, loss_fn: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """``loss_fn(*arguments)``, detached, after the library's backward pass of it.

        A probe that is due at the step evaluates it again, with all other micro-batches of the step. The variables that
        it uses are then what they are now, so it may be a lambda that names the batch of the loop.
        """
        if self._followed is None:
            self._followed = FollowedPass(self.optimizer, reached=[loss_fn, arguments])
        evaluate = partial(self._evaluate, partial(loss_fn, *arguments))
        self._followed.add(evaluate, variables=_variables_of(loss_fn))
        loss = evaluate()
        self._followed.note(loss)
        return loss.detach() / self._share()

    def forget_losses(self) -> None:
        """What ``backward`` comes to next is the first micro-batch of a step."""
        self._followed = None
        self.optimizer.coming.forget()

    def _share(self) -> float:
        """By what the library multiplies a loss before its backward pass."""
        return 1.0

    def _call_backward(self, loss: Tensor) -> None:
        """The backward pass of the library."""
        raise NotImplementedError

    def _evaluate(self, loss_fn: LossFn) -> Tensor:
        loss = forward_pass(self.optimizer, lambda: evaluate_loss(loss_fn))
        self._call_backward(loss)
        return loss * self._share()


def refuse_scaler(scaler: object) -> None:
    """Raise a ValueError where ``minimize`` would call backward on a loss that has to be scaled before."""
    if scaler is not None:
        raise ValueError(
            "minimize does not scale the loss, which fp16 needs; call optimizer.backward(loss_fn) and step(), or train "
            "in bf16"
        )


def _variables_of(function: object) -> list[Place]:
    """What a function finds in outer functions and in its module: a loop gives it other batches later."""
    if not isinstance(function, FunctionType):
        return []
    cells = [Cell(cell) for cell in function.__closure__ or ()]
    return [*cells, Names(function.__globals__, names_of(function.__code__))]
