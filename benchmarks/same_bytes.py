"""Hashes of what 16 runs of the lab write: run it before and after a change that should change no numbers.

``python benchmarks/same_bytes.py [SRC]`` prints a line a run; ``SRC`` is the ``src`` folder of another checkout. The
hash is of the metrics, the steps, the result and the telemetry; times of a probe are left out. A change that is meant
to change a file's format changes hashes too: its commit message should say so.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

SOURCE = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "src")
sys.path.insert(0, str(SOURCE))

from dcao_lab.config import RunConfig  # noqa: E402
from dcao_lab.runs.runner import run  # noqa: E402
from dcao_lab.runs.store import RunStore  # noqa: E402

BASE = RunConfig(workload="digits_mlp", optimizer="dcao:adamw", lr=1e-3, seed=0, num_steps=120, eval_every=40)
CASES = [
    BASE,
    replace(BASE, optimizer="dcao:sgd", lr=10.0, budget=100.0),
    replace(BASE, schedule="cosine"),
    replace(BASE, optimizer="dcao-literal:adamw"),
    replace(BASE, optimizer="dcao-literal:sgd", lr=0.05),
    replace(BASE, settings={"rule": "proposal", "rules": "lr+momentum+weight_decay"}),
    replace(BASE, settings={"measure": "preconditioned", "every": 10}),
    replace(BASE, settings={"measure": "hessian", "every": 20}),
    replace(BASE, settings={"measure": "batch"}),
    replace(BASE, optimizer="adamw", watch=True, spectrum_every=30),
    replace(BASE, optimizer="sgd", lr=0.1, watch=True, spectrum_every=40, measure_solution=True),
    replace(BASE, workload="digits_resnet", num_steps=30, eval_every=30),
    replace(BASE, workload="pydoc_gpt", num_steps=20, eval_every=20, optimizer="dcao:sgd"),
    replace(BASE, settings={"average": 8.0}),
    replace(BASE, label_noise=0.4, init_scale=2.0),
    replace(BASE, workload="digits_eos_ce", num_steps=80, eval_every=40, optimizer="dcao:sgd"),
]


def digest(config: RunConfig) -> str:
    """Hash of the files of one run."""
    total = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder))
        run(config, store)
        place = store.folder(config)
        for name in ("metrics.jsonl", "steps.parquet", "result.json"):
            total.update((place / name).read_bytes())
        telemetry = place / "telemetry.jsonl"
        for line in telemetry.read_text().splitlines() if telemetry.exists() else ():
            record = json.loads(line)
            record.pop("seconds")
            total.update(json.dumps(record, sort_keys=True).encode())
    return total.hexdigest()[:16]


def main() -> None:
    torch.set_num_threads(1)  # sums in another order would be other bytes
    for config in CASES:
        print(config.label, digest(config), flush=True)


if __name__ == "__main__":
    main()
