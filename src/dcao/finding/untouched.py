"""Training steps after which everything is bit for bit what it was: weights, optimizer, model, random streams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dcao.guarding.snapshots import copy_of_state
from dcao.isolation import leave_no_trace
from dcao.models import Model
from dcao.probing.probe import Probe
from dcao.probing.settings import ProbeSettings
from dcao.state.tensors import Kept
from dcao.vectors import params_of


@contextmanager
def untouched(optimizer: Optimizer, loss_fn: object, generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Context in which an optimizer may train, and after which nothing shows that it has.

    Put back, also after an exception: what :func:`dcao.isolation.leave_no_trace` puts back (gradients, buffers, modes,
    random streams, other state that the loss reaches), the parameters, and of the optimizer its state, its groups and
    its attributes. Inside, the optimizer has a copy of its state.

    Args:
        optimizer: The optimizer, live.
        loss_fn: The loss, whose state is looked for.
        generators: Random generators of the loader.
    """
    params, model = params_of(optimizer), Model(optimizer)
    probe = Probe(optimizer, model, None, ProbeSettings())  # knows what a loss starts from
    weights = [Kept.now(p) for p in params]
    attributes, groups = dict(vars(optimizer)), [dict(group) for group in optimizer.param_groups]
    lrs = [group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"] for group in groups]
    streams = [generator.get_state() for generator in generators]
    optimizer.state = _copied(optimizer.state)
    try:
        with leave_no_trace(params, modules=model.look()[0], rng_state=probe.start(loss_fn)):
            yield
    finally:
        vars(optimizer).clear()
        vars(optimizer).update(attributes)
        for group, before, lr in zip(optimizer.param_groups, groups, lrs, strict=True):
            group.clear()
            group.update(before)
            if isinstance(lr, Tensor):
                group["lr"].copy_(lr)
        for weight in weights:
            weight.restore()
        for generator, stream in zip(generators, streams, strict=True):
            generator.set_state(stream)


def generators_of(batches: object) -> list[torch.Generator]:
    """The generators that a DataLoader and its sampler shuffle with; none of anything else."""
    holders = [batches, getattr(batches, "sampler", None)]
    found = [getattr(holder, "generator", None) for holder in holders]
    return list(dict.fromkeys(each for each in found if isinstance(each, torch.Generator)))


def _copied(state: dict[Any, Any]) -> defaultdict[Any, Any]:
    copies: defaultdict[Any, Any] = defaultdict(dict)
    for key, entries in state.items():
        copies[key] = copy_of_state(entries) if isinstance(entries, dict) else entries
    return copies
