"""Results of unseen.py: a line a run, and the networks that fine-tuning starts from."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

OUT = Path(os.environ.get("UNSEEN_OUT", "unseen-results"))
RESULTS = OUT / "results.jsonl"


def key(job: dict[str, Any]) -> tuple[Any, ...]:
    """What tells one run from another."""
    return tuple(job[name] for name in ("task", "arm", "lr", "seed", "variant"))


def results() -> list[dict[str, Any]]:
    """All runs that are there."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def summarise(runs: list[dict[str, Any]], kind: str) -> float:
    """Mean metric over seeds; a run that diverged counts as the worst there is."""
    worst = 0.0 if kind == "acc" else math.inf
    values = []
    for run in runs:
        value = run.get("metric", worst)
        failed = run.get("diverged") or run.get("error") or not math.isfinite(value)
        values.append(worst if failed else value)
    return sum(values) / len(values)


def cached(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Weights that are made once and kept beside the results."""
    path = OUT / f"pretrained_{name}.pt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(make(), path)
    return torch.load(path)
