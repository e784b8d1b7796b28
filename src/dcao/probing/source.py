"""What a probe measures: the training batch, a loss of the caller's own, or batches from a loader."""

from __future__ import annotations

from typing import Any

from dcao.isolation import leave_no_trace
from dcao.operators.base import LossFn
from dcao.probing.batch import Batch
from dcao.probing.loader import ProbeLoader
from dcao.probing.probe import Probe
from dcao.probing.ranks import together


class ProbeSource:
    """Gives the batches of the coming probe.

    Args:
        own: What to probe instead of the training batch: a loss or a loader; None: the training batch.
        probe: The probe that is going to measure them.
        is_shared: Whether probes that decide and spectra between them both ask for batches.
    """

    def __init__(self, own: LossFn | ProbeLoader | None, probe: Probe, *, is_shared: bool) -> None:
        self.own, self.probe, self.is_shared = own, probe, is_shared

    @property
    def is_training_batch(self) -> bool:
        """Whether the training batch is what is probed."""
        return self.own is None

    def batches(self, training: Batch | None, *, decides: bool) -> list[Batch] | None:
        """The batches to measure; None if there are none.

        Spectra between probes measure a loader's last batches again: the next ones are left to the probes that decide.
        """
        if self.own is None:
            return None if training is None else [training]
        if self.probe.is_held:
            return []
        if not isinstance(self.own, ProbeLoader):
            return [Batch(loss_fn=self.own, rng_state=self.probe.start(self.own))]
        loader, (modules, ranks) = self.own, self.probe.model.look()
        with leave_no_trace(self.probe.params(), modules=modules):
            start = self.probe.start(loader.batch_loss)
            if decides or not self.is_shared:
                return together(lambda: loader.draw(start, keep=self.is_shared), ranks)
            return together(lambda: loader.draw_again(start), ranks)

    def state_dict(self) -> dict[str, Any] | None:
        """Position in the loader, if there is one."""
        return self.own.state_dict() if isinstance(self.own, ProbeLoader) else None

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Go back to a position."""
        if isinstance(self.own, ProbeLoader) and state is not None:
            self.own.load_state_dict(state)


def nothing_to_probe(step: int) -> ValueError:
    """The error for a due probe in a loop that has not said what to probe."""
    return ValueError(
        f"a probe is due at step {step} and there is nothing to probe: call optimizer.minimize(loss_fn), "
        "step(closure), or optimizer.probe_if_due(loss_fn) before step(); or give probe_batch=. A trainer that calls "
        "backward itself needs its part of dcao.integrations, such as DCAOTrainer in place of Trainer"
    )
