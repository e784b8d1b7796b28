"""Small configs and finished runs for the tests of the lab."""

import contextlib
import dataclasses
import re

import torch

from dcao_lab.config import RunConfig
from dcao_lab.runs.runner import load, run
from dcao_lab.runs.store import RunStore
from dcao_lab.runs.training import training_steps
from dcao_lab.workloads import WORKLOADS

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def small_config(**changes):
    settings = {"workload": "digits_mlp", "optimizer": "adamw", "lr": 1e-3, "seed": 0, "num_steps": 6, "eval_every": 3}
    return RunConfig(**{**settings, **changes})


def minimize(optimizer, loss_fn, batch=None):
    """One training step of any optimizer; the loss before it."""
    return next(training_steps(optimizer, lambda batch: loss_fn(), iter([batch])))


def finish(store: RunStore, *configs):
    """Do the runs here and now, and return them as stored."""
    for config in configs:
        run(config, store)
    return [load(config, store) for config in configs]


def demo_like_configs():
    """One seed of AdamW with and without DCAO from two learning rates, watched, with spectra."""
    return [
        small_config(optimizer=optimizer, lr=lr, watch=True, spectrum_every=3)
        for optimizer in ("adamw", "dcao:adamw")
        for lr in (1e-3, 1e-1)
    ]


def with_hostile_names(runs, monkeypatch):
    real = WORKLOADS["digits_mlp"]
    info = dataclasses.replace(real.info, title=HOSTILE, summary=HOSTILE, metric="accuracy")
    monkeypatch.setitem(WORKLOADS, "digits_mlp", dataclasses.replace(real, info=info))
    return [dataclasses.replace(run, provenance={**run.provenance, "processor": HOSTILE}) for run in runs]


def run_bytes(store: RunStore, config):
    """The contents of a run's files by name, but for what tells when, where and how fast it was done."""
    varying = {"timing.json", "provenance.json", "manifest.json"}
    files = {path.name: path.read_bytes() for path in store.folder(config).iterdir() if path.name not in varying}
    if "telemetry.jsonl" in files:  # the library's record of a probe says how long it took
        files["telemetry.jsonl"] = re.sub(rb'"seconds": [0-9.e+-]+', b'"seconds": ...', files["telemetry.jsonl"])
    return files


@contextlib.contextmanager
def one_thread():
    """In the block torch has one thread, as worker processes do: sums then have the same order, and the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
