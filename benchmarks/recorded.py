"""What a benchmark has measured, as a file in ``benchmarks/results``."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def write_results(name: str, **measured: Any) -> None:
    """Write ``results/NAME.json``: torch's version and the kind of machine, then what was measured."""
    RESULTS.mkdir(exist_ok=True)
    record = {"torch": torch.__version__, "machine": platform.machine(), **measured}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def keep_freed_memory() -> None:
    """Start this program again with an allocator that keeps what is freed, unless it has been started so.

    By default glibc gives large pieces back to the system, which has to clear them when they are asked for again. Of
    two loops that take turns that meets the one or the other by chance, and costs a step up to 15 % of its time.
    """
    most = str(2**32)
    wanted = {"MALLOC_TRIM_THRESHOLD_": most, "MALLOC_MMAP_THRESHOLD_": most}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
