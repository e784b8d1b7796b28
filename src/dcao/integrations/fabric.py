"""DCAO under Lightning Fabric: ``setup(fabric, ...)`` in place of ``fabric.setup(...)``; see ``docs/trainers.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.fabric import Fabric, wrappers
from lightning.fabric.wrappers import _FabricOptimizer
from torch import Tensor, nn

from dcao.integrations.own_loops import BackwardOfLosses, refuse_scaler
from dcao.operators.base import LossFn
from dcao.optimizer import DCAO
from dcao.probing.estimate import CurvatureEstimate


def setup(fabric: Fabric, module: nn.Module, *optimizers: DCAO, **settings: Any) -> Any:
    """What ``fabric.setup(module, *optimizers)`` returns, where each DCAO has a ``backward(loss_fn)``.

    Example:
        >>> import torch
        >>> fabric = Fabric(accelerator="cpu", devices=1)
        >>> model = torch.nn.Linear(4, 1)
        >>> model, optimizer = setup(fabric, model, DCAO(torch.optim.AdamW(model.parameters())))
        >>> x = torch.randn(8, 4)
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     loss = optimizer.backward(lambda: model(x).square().mean())
        ...     optimizer.step()
        >>> optimizer.num_steps
        3
    """
    ready = fabric.setup(module, *optimizers, **settings)
    for each in ready if isinstance(ready, tuple) else ():
        if isinstance(each, _FabricOptimizer) and isinstance(each.optimizer, DCAO):
            each.__class__ = type("FabricDCAO", (_FabricDCAO, type(each)), {"fabric": fabric})
    return ready


class _FabricDCAO(BackwardOfLosses):
    """In front of Fabric's own wrapper, which hands on all attributes of the DCAO inside."""

    fabric: Fabric

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """A step."""
        try:
            return super().step(closure)  # type: ignore[misc]  # of Fabric's wrapper
        finally:
            self.forget_losses()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        self.optimizer.zero_grad(set_to_none)
        self.forget_losses()

    def minimize(self, loss_fn: LossFn | Sequence[LossFn], *, clip_norm: float | None = None) -> Tensor:
        """One training step; see :meth:`dcao.DCAO.minimize`.

        Raises:
            ValueError: In fp16.
        """
        refuse_scaler(getattr(self.fabric.strategy.precision, "scaler", None))
        with _as_fabrics_backward():
            return DCAO.minimize(self, loss_fn, clip_norm=clip_norm)  # type: ignore[arg-type]  # it imitates a DCAO

    def probe_if_due(self, loss_fn: LossFn | Sequence[LossFn]) -> CurvatureEstimate | None:
        """Measure the loss if that is due before the coming step; see :meth:`dcao.DCAO.probe_if_due`."""
        with _as_fabrics_backward():
            return self.optimizer.probe_if_due(loss_fn)

    def probe(self, loss_fn: LossFn, *, spectrum: bool = False) -> CurvatureEstimate:
        """Measure the loss now; see :meth:`dcao.DCAO.probe`."""
        with _as_fabrics_backward():
            return self.optimizer.probe(loss_fn, spectrum=spectrum)

    def _call_backward(self, loss: Tensor) -> None:
        self.fabric.backward(loss)


@contextmanager
def _as_fabrics_backward() -> Iterator[None]:
    """Context in which Fabric takes every backward pass for one of its own: it refuses others, in half precision."""
    outer = wrappers._in_fabric_backward
    wrappers._in_fabric_backward = True
    try:
        yield
    finally:
        wrappers._in_fabric_backward = outer
