"""Small configs and finished runs for the tests of the lab."""

import dataclasses

from dcao_lab.config import RunConfig
from dcao_lab.runner import load, run
from dcao_lab.store import RunStore
from dcao_lab.workloads import WORKLOADS

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def small_config(**changes):
    settings = {"workload": "digits_mlp", "optimizer": "adamw", "lr": 1e-3, "seed": 0, "num_steps": 6, "eval_every": 3}
    return RunConfig(**{**settings, **changes})


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
    """The contents of a run's files by name, but for those that tell when, where and how fast it was done."""
    varying = {"timing.json", "provenance.json", "manifest.json"}
    return {path.name: path.read_bytes() for path in store.folder(config).iterdir() if path.name not in varying}
