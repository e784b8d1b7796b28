"""Whether DCAO is right on your GPU, and what it costs there: one table in Markdown, to paste into a report.

Checks, on the device: that training is bit for bit that of the bare optimizer while it is probed (loops, foreach, fused
and capturable bases), that s is that of the CPU and of float64 (bfloat16, float16 with a GradScaler, TF32), compiled
models, DistributedDataParallel, checkpoints, the guard, ``find_lr``; then the contract tests, if pytest is installed
and this is a clone; then the costs of a probe and of the guard, its waits for the device, and memory.

Run: python benchmarks/gpu_check.py (under ten minutes; --device cpu works too, and skips what needs CUDA).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

import dcao
from device_checks import CHECKS, Check, Outcome
from device_costs import costs

ROOT = Path(__file__).parents[1]
CONTRACTS = ("fixed_is_bare", "no_trace", "step", "schedulers", "finding_leaves_no_trace")
"""The contract tests that make their models on the device."""

QUICK = (
    "bit for bit as bare: fused",
    "bit for bit as bare: capturable",
    "an lr that is a tensor",
    "s as on the CPU, float32",
    "s in float32 with TF32",
    "checkpoint through the CPU",
    "batches of nan",
)
"""What --quick checks."""


def contract_tests(device: torch.device, *, minutes: float = 5.0) -> Outcome:
    """The contract tests on the device, in a process of their own."""
    if importlib.util.find_spec("pytest") is None or not (ROOT / "tests" / "contracts").is_dir():
        return Outcome("skip", "needs pytest and a clone")
    files = [str(ROOT / "tests" / "contracts" / f"test_{name}.py") for name in CONTRACTS]
    workers = ["-n", "4"] if importlib.util.find_spec("xdist") is not None else []
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *workers, *files]
    environment = {**os.environ, "DCAO_TEST_DEVICE": str(device), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60 * minutes, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome("fail", f"not done in {minutes:g} minutes")
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    print("\n".join(failed), file=sys.stderr)
    counts = re.sub(r" in [\d.]+s.*", "", lines[-1]).strip("= ") if lines else done.stderr.strip()[-200:]
    return Outcome("pass" if done.returncode == 0 else "fail", counts)


def environment(device: torch.device) -> str:
    """Device and versions, in one line."""
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        name = f"{torch.cuda.get_device_name(device)} ({memory:.0f} GiB, compute capability {capability})"
    versions = [f"torch {torch.__version__}", f"CUDA {torch.version.cuda}", f"Python {platform.python_version()}"]
    return ", ".join([f"DCAO {dcao.__version__} on {name}", *versions, platform.system()])


def results(checks: dict[str, Check], device: torch.device) -> Iterator[tuple[str, Outcome]]:
    """What each check has found; an error is a failure, and the other checks go on."""
    for name, check in checks.items():
        started = time.perf_counter()
        try:
            outcome = check(device)
        except Exception as error:
            first_line = f"{type(error).__name__}: {error}".splitlines()[0]
            outcome = Outcome("fail", first_line[:200])
        print(f"{name}: {outcome.status} ({time.perf_counter() - started:.1f} s)", file=sys.stderr, flush=True)
        yield name, outcome


def table(device: torch.device, rows: list[tuple[str, Outcome]]) -> str:
    """The report in Markdown."""
    lines = [f"{name} | {outcome.status} | {outcome.found.replace('|', '/')}" for name, outcome in rows]
    counts = {status: sum(outcome.status == status for _, outcome in rows) for status in ("pass", "fail", "skip")}
    total = ", ".join(f"{count} {status}" for status, count in counts.items())
    return "\n".join([environment(device), "", "| check | result | found |", "|---|---|---|"]) + "".join(
        f"\n| {line} |" for line in [*lines, f"**total** | {total} | "]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="a few checks, and a tiny model for the costs")
    parser.add_argument("--no-contracts", action="store_true", help="leave out the contract tests")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("there is no CUDA device that torch sees; --device cpu checks what does not need one", file=sys.stderr)
        return 2
    if device.type == "cuda":
        torch.cuda.set_device(device)
    checks = {name: CHECKS[name] for name in QUICK} if chosen.quick else dict(CHECKS)
    if not chosen.no_contracts:
        checks["contract tests"] = contract_tests
    checks |= costs(is_quick=chosen.quick)
    rows = list(results(checks, device))
    print(table(device, rows))
    return int(any(outcome.status == "fail" for _, outcome in rows))


if __name__ == "__main__":
    sys.exit(main())
