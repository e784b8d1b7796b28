"""DCAO under Lightning Fabric: ``setup(fabric, ...)`` in place of ``fabric.setup(...)``; see ``docs/trainers.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.fabric import Fabric, wrappers
from lightning.fabric.wrappers import _FabricOptimizer
from torch import Tensor, nn

from dcao.integrations.own_loops import BackwardOfLosses, refuse_scaler
from dcao.operators.base import LossFn
from dcao.optimizer import DCAO
from dcao.probing.estimate import CurvatureEstimate
from dcao.vectors import params_of

ENGINES = frozenset({"DeepSpeedStrategy", "XLAStrategy", "XLAFSDPStrategy", "SingleDeviceXLAStrategy"})
"""Classes of Fabric and of the Trainer, by name because each has one of its own."""


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

    Raises:
        ValueError: The strategy takes the step in an engine of its own, or replaces the parameters of the module, as
            one that shards does: see :func:`setup_optimizers`.
    """
    refuse_strategy(fabric.strategy)
    before = {id(p) for p in module.parameters()}
    ready = fabric.setup(module, *optimizers, **settings)
    if not isinstance(ready, tuple):
        return ready
    replaced = before - {id(p) for p in ready[0].parameters()}
    if any(id(p) in replaced for optimizer in optimizers for p in params_of(optimizer)):
        strategy = type(fabric.strategy).__name__
        raise ValueError(
            f"the optimizer must hold the parameters that train, got those that {strategy} has replaced; set up the "
            "module first: net = fabric.setup_module(net), then optimizer = "
            "dcao.integrations.fabric.setup_optimizers(fabric, DCAO(torch.optim.AdamW(net.parameters())))"
        )
    _give_backward(fabric, ready)
    return ready


def setup_optimizers(fabric: Fabric, *optimizers: DCAO) -> Any:
    """What ``fabric.setup_optimizers(*optimizers)`` returns, where each DCAO has a ``backward(loss_fn)``.

    For strategies that replace the parameters of a module, as ``ModelParallelStrategy`` with ``fully_shard`` does:
    there an optimizer is built after ``fabric.setup_module``.

    Example:
        >>> import torch
        >>> fabric = Fabric(accelerator="cpu", devices=1)
        >>> model = fabric.setup_module(torch.nn.Linear(4, 1))
        >>> optimizer = setup_optimizers(fabric, DCAO(torch.optim.AdamW(model.parameters())))
        >>> loss = optimizer.backward(lambda: model(torch.ones(8, 4)).square().mean())
        >>> _ = optimizer.step()

    Raises:
        ValueError: The strategy takes the step in an engine of its own.
    """
    refuse_strategy(fabric.strategy)
    ready = fabric.setup_optimizers(*optimizers)
    _give_backward(fabric, ready if isinstance(ready, tuple) else (ready,))
    return ready


def refuse_strategy(strategy: object) -> None:
    """Raise a ValueError where a strategy of Lightning takes the step in an engine of its own."""
    found = ENGINES.intersection(each.__name__ for each in type(strategy).__mro__)
    if found:
        raise ValueError(
            f"DCAO must take the step itself, got Lightning with {min(found)}, which takes it in an engine of its own; "
            "train with DDPStrategy, with ModelParallelStrategy, or with the bare optimizer"
        )


def _give_backward(fabric: Fabric, ready: Iterable[object]) -> None:
    for each in ready:
        if isinstance(each, _FabricOptimizer) and isinstance(each.optimizer, DCAO):
            each.__class__ = type("FabricDCAO", (_FabricDCAO, type(each)), {"fabric": fabric})


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
