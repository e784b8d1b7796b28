"""Peak memory of Lanczos in parameter-sized vectors: a synthetic operator and a real model, float32 and bfloat16 basis.

Counts the bytes of every storage that torch allocates while Lanczos runs, by a ``TorchDispatchMode`` that sees each
operation's outputs and a weak reference that sees their end; so temporaries count, as do the copies an operator makes.
The resident memory of a whole process is beside it, as a check from outside. Graphs and activations are left out
of the count by building them before it starts.

Run: python benchmarks/memory.py. Prints a table and writes benchmarks/results/memory.json.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dcao.operators import HessianOperator, LinearOperator
from dcao.spectra.lanczos import lanczos
from recorded import write_results


class AliveBytes(TorchDispatchMode):
    """Bytes of the storages made by torch operations inside the context: now, and at the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in inputs:
                self._watch(tensor)
        return result

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        self._seen[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._end, key)

    def _end(self, key: int) -> None:
        self.now -= self._seen.pop(key, 0)


class Diagonal(LinearOperator):
    """A synthetic operator: its product allocates the result and nothing else."""

    def __init__(self, size: int) -> None:
        self.size, self.device, self.dtype = size, torch.device("cpu"), torch.float32
        self.values = torch.logspace(0, -6, size)

    def matvec(self, vector: Tensor) -> Tensor:
        """One new vector."""
        return self.values * vector


def peak_vectors(run: Callable[[], Any], size: int, bytes_per_entry: int = 4) -> float:
    """Peak of ``run`` in vectors of ``size`` entries."""
    gc.collect()
    with AliveBytes() as alive:
        result = run()
    del result
    return alive.peak / (bytes_per_entry * size)


def model_hessian(width: int = 700) -> HessianOperator:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10))
    x = torch.randn(4, width)
    operator = HessianOperator(lambda: model(x).square().mean(), model.parameters())
    operator.matvec(torch.ones(operator.size))  # build the graph before counting
    return operator


def lanczos_rows(operator: LinearOperator, name: str) -> list[dict[str, Any]]:
    """Peaks of the modes at several step counts, each beside its promise."""
    rows = []
    for steps in (1, 5, 10, 30):
        k = min(5, steps)
        modes: list[tuple[str, dict[str, Any], float]] = [
            ("full", {}, steps + 3),
            ("full, with vectors", {"vectors": True}, steps + 3),
            ("full, bfloat16 basis", {"vectors": True, "basis_dtype": torch.bfloat16}, steps / 2 + 4),
            ("light", {"reorthogonalize": "none"}, 4),
        ]
        for mode, options, promise in modes:
            run = partial(lanczos, operator, k, num_steps=steps, **options)
            peak = peak_vectors(run, operator.size)
            rows.append({"operator": name, "mode": mode, "steps": steps, "peak_vectors": peak, "promise": promise})
    return rows


def process_peak(steps: int, size: int, mode: str) -> float | None:
    """The same from outside: how far the resident memory of a fresh process rises, in vectors (Linux only)."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from memory import Diagonal, lanczos
operator = Diagonal({size})
lanczos(Diagonal(1000), num_steps=2)
def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))
open("/proc/self/clear_refs", "w").write("5")  # resets the high-water mark
before = status("VmRSS")
lanczos(operator, 3, num_steps={steps}, vectors={mode == "full"}, reorthogonalize={mode!r})
print((status("VmHWM") - before) / (4 * {size}))
"""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    except (subprocess.CalledProcessError, OSError):
        return None
    return float(done.stdout)


def main() -> None:
    rows = lanczos_rows(Diagonal(200_000), "synthetic, 200k")
    rows += lanczos_rows(model_hessian(), "MLP Hessian, 498k")
    for steps, mode, promise in ((10, "full", 13), (10, "none", 4)):
        peak = process_peak(steps, 10_000_000, mode)
        rows.append(
            {
                "operator": "synthetic, 10M, whole process",
                "mode": "light" if mode == "none" else "full, with vectors",
                "steps": steps,
                "peak_vectors": peak,
                "promise": promise,
            }
        )
    print(
        f"{'operator':30s} {'mode':22s} {'steps':>5s} {'peak':>7s} {'promise':>8s}   (parameter-sized float32 vectors)"
    )
    for row in rows:
        peak = "n/a" if row["peak_vectors"] is None else f"{row['peak_vectors']:.2f}"
        print(f"{row['operator']:30s} {row['mode']:22s} {row['steps']:5d} {peak:>7s} {row['promise']:8.1f}")
    write_results("memory", rows=rows)


if __name__ == "__main__":
    main()
