"""Where a run's numbers come from: commit, versions, machine, time."""

import os
import platform
import subprocess
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    *("dcao", "torch", "numpy", "scipy", "scikit-learn"),
    *("transformers", "datasets", "pytorch_optimizer", "curvlinops-for-pytorch", "optuna"),
)
SOURCE = Path(__file__).resolve().parent


def provenance(device: torch.device) -> dict[str, Any]:
    """What to know about the code, the machine and the device that trained, as JSON has it."""
    return {
        "commit": commit(),
        "has_uncommitted_changes": has_uncommitted_changes(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processor": platform.processor() or platform.machine(),
        "num_cores": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "system": platform.system(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@cache
def commit() -> str | None:
    """The commit of the source tree that runs; None when it is not a git checkout of this project."""
    toplevel = _git("rev-parse", "--show-toplevel")
    if toplevel is None or not (Path(toplevel) / "src" / "dcao_lab").is_dir():
        return None  # installed into an environment that happens to lie inside some other repository
    return _git("rev-parse", "HEAD")


@cache
def has_uncommitted_changes() -> bool | None:
    """Whether the source tree differs from its commit; None where there is no commit."""
    return None if commit() is None else bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=SOURCE, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
