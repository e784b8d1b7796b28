"""DCAO in the Trainer of Hugging Face: ``DCAOTrainer`` in place of ``Trainer``; see ``docs/trainers.md``."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer

from dcao.integrations.accelerate import dcao_of, precision_of, refuse_engines
from dcao.loop.passes import FollowedPass, forward_pass
from dcao.optimizer import DCAO
from dcao.state.places import Entries, Place
from dcao.state.probing import is_probing
from dcao.state.start import no_surroundings

if TYPE_CHECKING:
    Base = Trainer
else:
    Base = object

DATA = ("train_dataset", "eval_dataset", "callback_handler")
"""Attributes of a Trainer that hold data, and what a training step does not touch: they may be long."""


class DCAOMixin(Base):
    """Makes any subclass of the Hugging Face ``Trainer`` train with DCAO: ``class Mine(DCAOMixin, SFTTrainer): pass``.

    The optimizer that the arguments ask for is wrapped; one that is passed as ``optimizers=(DCAO(...), None)`` is
    taken as it is. Probes measure the training batches of the step with the Trainer's own ``training_step``, all
    micro-batches of an accumulation together, so that they see its loss, its precision and its clip. The Trainer's
    scheduler gives the shape of lr and DCAO the scale, so ``learning_rate`` of the arguments does not matter; the
    ``learning_rate`` in the log is the one that trains.

    Example:
        >>> from transformers import Seq2SeqTrainer
        >>> class Mine(DCAOMixin, Seq2SeqTrainer):
        ...     pass
        >>> Mine.training_step is DCAOMixin.training_step
        True
    """

    _pass: FollowedPass | None = None

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Optimizer:
        """The optimizer that the Trainer makes, or was given, inside DCAO."""
        refuse_engines(self.accelerator)
        optimizer = super().create_optimizer(*args, **kwargs)
        if dcao_of(optimizer) is None:
            self.optimizer = optimizer = self.wrap_optimizer(optimizer)
        return optimizer

    def wrap_optimizer(self, base: Optimizer) -> DCAO:
        """DCAO around the optimizer that the arguments ask for; override it for other settings of DCAO.

        Under FSDP this is the only way: there the Trainer takes no ``optimizers``.
        """
        return DCAO(base)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and leave nothing behind if that is interrupted."""
        try:
            return super().train(*args, **kwargs)
        finally:
            optimizer = dcao_of(self.optimizer)
            if optimizer is not None:
                optimizer.coming.forget()
                optimizer.loop.probe.surroundings = no_surroundings

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The micro-batches of the coming step: a new training pass begins."""
        self._pass = None
        return super().get_batch_samples(*args, **kwargs)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """One micro-batch, which DCAO may measure later."""
        optimizer = dcao_of(self.optimizer)
        if optimizer is None:
            return super().training_step(model, inputs, *args, **kwargs)
        if is_probing():
            with self._failing_together(optimizer):
                return super().training_step(model, inputs, *args, **kwargs)
        if self._pass is None:
            optimizer.loop.probe.surroundings = self._surroundings
            self._pass = FollowedPass(optimizer, precision=precision_of(self.accelerator))
        kept = copy.copy(inputs)  # the step may take something away
        self._pass.add(lambda: self.training_step(model, copy.copy(kept), *args, **kwargs))
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._pass.note(loss)
        return loss

    @contextmanager
    def _failing_together(self, optimizer: DCAO) -> Iterator[None]:
        """Context in which a ``compute_loss`` that raises, of whatever subclass, does so on every rank."""
        compute, is_own = self.compute_loss, "compute_loss" in vars(self)
        vars(self)["compute_loss"] = lambda *args, **kwargs: forward_pass(optimizer, partial(compute, *args, **kwargs))
        try:
            yield
        finally:
            if is_own:
                vars(self)["compute_loss"] = compute
            else:
                del vars(self)["compute_loss"]

    def _surroundings(self) -> tuple[Sequence[object], Sequence[Place]]:
        """What the class of the caller keeps in its attributes is put back after a probe."""
        state = vars(self)
        return [type(self), *(value for name, value in state.items() if name not in DATA)], [Entries(state)]

    def _get_learning_rate(self) -> float:
        """For the log: the lr that has trained, and not the scheduler's."""
        optimizer = dcao_of(self.optimizer)
        return super()._get_learning_rate() if optimizer is None else optimizer.effective_lrs[0]


class DCAOTrainer(DCAOMixin, Trainer):
    """The ``Trainer`` of Hugging Face, which trains with DCAO; all that it takes is what ``Trainer`` takes."""
