"""What a benchmark has measured, as a file in ``benchmarks/results``."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def write_results(name: str, **measured: Any) -> None:
    """Write ``results/NAME.json``: torch's version and the kind of machine, then what was measured."""
    RESULTS.mkdir(exist_ok=True)
    record = {"torch": torch.__version__, "machine": platform.machine(), **measured}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
