"""A spectrum at a step where nothing is decided: measured, recorded, and of no consequence."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dcao.policies.base import Decision
from dcao.probing.batch import Batch, mean_loss_of
from dcao.probing.source import nothing_to_probe

if TYPE_CHECKING:
    from dcao.loop.probe_loop import ProbeLoop

REASON = "nothing is decided: this spectrum only informs"


def inform(loop: ProbeLoop, batch: Batch | None) -> None:
    """Measure and record a spectrum; one that has nothing to measure is postponed to the next step that has.

    Raises:
        TypeError, ValueError: At the first probe of a run, with what is wrong with the caller's loss.
    """
    loss, started = mean_loss_of(batch, loop.probe.model), time.perf_counter()
    is_first = not loop.turns.has_begun and loop.spectrum_turns.taken_at < 0
    try:
        batches = loop.source.batches(batch, decides=False)
        if batches is None:
            if is_first:
                raise nothing_to_probe(loop.num_steps)
            return
        with loop.controller.training_lrs():
            estimate = loop.last_spectrum = loop.probe.inform(batches, step=loop.num_steps)
    except Exception as error:
        estimate, loop.failure = loop.failed(error, is_first=is_first), None
    loop.spectrum_turns.take(loop.num_steps)
    loop.cost += estimate.cost
    loop.last_estimate = estimate
    now = loop.controller.training_hyperparameters()
    decision = Decision(hyperparameters=now, reason=REASON)
    loop.record(decision, now, loss, started, estimate=estimate)
