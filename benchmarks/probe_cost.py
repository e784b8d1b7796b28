"""What a probe costs: the wrapper's own, and following the top eigenvalue beside its peers on the same problems.

Each workload is trained; every few steps the largest eigenvalue of the loss Hessian on one fixed batch is measured by
every method at the same parameters. Truth is SciPy's eigsh on a float64 copy. Costs are products with the Hessian,
and gradient-equivalents: CPU time over the CPU time of one gradient of the same batch, re-measured before each method.

Run: python benchmarks/probe_cost.py [--steps 300]. Prints tables and writes benchmarks/results/probe_cost.json.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dcao.operators import make_hessian
from dcao.probing.eigenvalues import FRESH_EVERY
from dcao.spectra.lanczos import lanczos
from recorded import write_results
from step_probe import print_step_probes, step_probe_rows
from workloads import WORKLOADS, Workload, cross_entropy

PROBE_EVERY = 10
PEERS_EVERY = 5  # peers cost up to a hundred gradients a probe: at every fifth probe they are measured too


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The problem at one training step."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor

    def loss(self) -> Tensor:
        return cross_entropy(self.model(self.inputs), self.targets)

    @property
    def params(self) -> list[nn.Parameter]:
        return list(self.model.parameters())


@dataclass(kw_only=True)
class Method:
    """A way to measure: returns the eigenvalue and the number of products; keeps what it warm-starts from."""

    name: str
    measure: Callable[[Probe, dict[str, Any]], tuple[float, int]]
    every: int = 1
    memory: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)


# --- DCAO


def tracked(num_steps: int, tolerance: float | None = None, hvp: str = "auto") -> Callable[..., tuple[float, int]]:
    """Warm-started Lanczos, as a probe does it: the first and every tenth run start afresh, with ten steps or more."""

    def measure(probe: Probe, memory: dict[str, Any]) -> tuple[float, int]:
        operator = make_hessian(probe.loss, probe.params, hvp=hvp, modules=list(probe.model.modules()))
        is_fresh = tolerance is not None and memory.get("runs", 0) % FRESH_EVERY == 0
        start = None if is_fresh else memory.get("vectors")
        memory["runs"] = memory.get("runs", 0) + 1
        steps = num_steps if start is not None else 10
        result = lanczos(operator, 1, start=start, num_steps=steps, tolerance=tolerance, vectors=True)
        memory["vectors"] = result.ritz_vectors
        return float(result.ritz_values[0]), result.num_matvecs

    return measure


# --- peers


def curvlinops_eigsh(**options: Any) -> Callable[..., tuple[float, int]]:
    """SciPy's ARPACK on curvlinops' Hessian; ``warm=True`` starts it from its last eigenvector."""
    warm = options.pop("warm", False)

    def measure(probe: Probe, memory: dict[str, Any]) -> tuple[float, int]:
        from curvlinops import HessianLinearOperator

        criterion = FlatCrossEntropy()
        with sdpa_kernel(SDPBackend.MATH):
            operator = HessianLinearOperator(
                probe.model, criterion, probe.params, [(probe.inputs, probe.targets)], check_deterministic=False
            )
            count = Counter(lambda v: (operator @ torch.from_numpy(v)).numpy())
            size = sum(p.numel() for p in probe.params)
            scipy_operator = LinearOperator((size, size), matvec=count, dtype=np.float32)
            v0 = memory.get("v0") if warm else None
            values, vectors = eigsh(scipy_operator, k=1, which="LA", v0=v0, **options)
        memory["v0"] = vectors[:, 0]
        return float(values[0]), count.calls

    return measure


def eigenthings_lanczos(num_steps: int | None) -> Callable[..., tuple[float, int]]:
    """hessian-eigenthings' Lanczos; ``None`` is its default of two steps for one pair."""

    def measure(probe: Probe, memory: dict[str, Any]) -> tuple[float, int]:
        import hessian_eigenthings as eigenthings

        with sdpa_kernel(SDPBackend.MATH):
            operator = eigenthings.HessianOperator(
                probe.model,
                [(probe.inputs, probe.targets)],
                lambda model, batch: cross_entropy(model(batch[0]), batch[1]),
            )
            count = Counter(operator.matvec)
            operator.matvec = count
            result = eigenthings.lanczos(operator, k=1, max_iter=num_steps, which="LA", seed=0)
        return float(result.eigenvalues[0]), count.calls

    return measure


def pyhessian_power(probe: Probe, memory: dict[str, Any]) -> tuple[float, int]:
    """PyHessian's power iteration at its defaults."""
    import pyhessian

    module = sys.modules["pyhessian.hessian"]  # the name pyhessian.hessian is the class
    count = Counter(module.hessian_vector_product)
    with sdpa_kernel(SDPBackend.MATH), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        original, module.hessian_vector_product = module.hessian_vector_product, count
        try:
            hessian = pyhessian.hessian(probe.model, cross_entropy, data=(probe.inputs, probe.targets), cuda=False)
            values, _ = hessian.eigenvalues()
        finally:
            module.hessian_vector_product = original
            probe.model.zero_grad()
            probe.model.train()  # it leaves the model in eval mode
    return float(values[0]), count.calls


class Counter:
    """A function that counts its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.function(*args, **kwargs)


class FlatCrossEntropy(nn.CrossEntropyLoss):
    """Curvlinops knows losses by their class; this one flattens positions first."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets)


# --- truth and cost


def true_value(probe: Probe, memory: dict[str, Any]) -> float:
    """Largest eigenvalue by eigsh to 1e-6 on a float64 copy, by double backward written out here."""
    model = copy.deepcopy(probe.model).double()
    params = list(model.parameters())
    inputs = probe.inputs.double() if probe.inputs.is_floating_point() else probe.inputs
    with sdpa_kernel(SDPBackend.MATH):
        loss = cross_entropy(model(inputs), probe.targets)
        gradient = torch.autograd.grad(loss, params, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradient])

    def matvec(v: np.ndarray) -> np.ndarray:
        product = torch.autograd.grad(flat, params, torch.from_numpy(v.ravel().copy()), retain_graph=True)
        return torch.cat([p.reshape(-1) for p in product]).numpy()

    size = flat.numel()
    operator = LinearOperator((size, size), matvec=matvec, dtype=np.float64)
    # two pairs: with one, a start at the old eigenvector could miss a new one that has crossed it
    values, vectors = eigsh(operator, k=2, which="LA", tol=1e-6, v0=memory.get("v0"))
    memory["v0"] = vectors.sum(axis=1)
    return float(values.max())


def gradient_seconds(probe: Probe, repeats: int = 5) -> float:
    """Median CPU time of one gradient."""
    return statistics.median(
        cpu_seconds(lambda: torch.autograd.grad(probe.loss(), probe.params)) for _ in range(repeats)
    )


def cpu_seconds(function: Callable[[], Any]) -> float:
    before = time.process_time()
    function()
    return time.process_time() - before


# --- the run


def lanczos_methods() -> list[Method]:
    """DCAO's tracking and the peers that are installed."""
    methods = [
        Method(name="dcao: warm Lanczos, 4 products", measure=tracked(4)),
        Method(name="dcao: warm Lanczos, to residual 5 %", measure=tracked(8, tolerance=0.05)),
        # Across the kinks of ReLU networks (MLP, CNN) differences measure another curvature than the truth's.
        Method(name="dcao: the same, central differences", measure=tracked(8, tolerance=0.05, hvp="central")),
    ]
    peers = [
        ("curvlinops-for-pytorch", "curvlinops + eigsh, tol 1e-2", curvlinops_eigsh(tol=1e-2)),
        (
            "curvlinops-for-pytorch",
            "curvlinops + eigsh, warm, ncv 4, tol 5e-2",
            curvlinops_eigsh(tol=5e-2, ncv=4, warm=True),
        ),
        ("hessian-eigenthings", "hessian-eigenthings, defaults", eigenthings_lanczos(None)),
        ("hessian-eigenthings", "hessian-eigenthings, 10 steps", eigenthings_lanczos(10)),
        ("pyhessian", "PyHessian, defaults", pyhessian_power),
    ]
    return methods + [
        Method(name=name, measure=measure, every=PEERS_EVERY) for package, name, measure in peers if installed(package)
    ]


def track(workload: Workload, num_steps: int, methods: list[Method]) -> None:
    """Train the workload and let every method measure along the way."""
    torch.manual_seed(0)
    model = workload.model()
    optimizer = workload.optimizer(list(model.parameters()))
    inputs, targets = next(workload.batches(seed=1))
    memory: dict[str, Any] = {}
    for step, (x, y) in zip(range(num_steps), workload.batches(), strict=False):
        if step % PROBE_EVERY == 0:
            probe = Probe(model=model, inputs=inputs, targets=targets)
            truth = true_value(probe, memory)
            for method in methods:
                if step // PROBE_EVERY % method.every == 0:
                    method.rows.append({"step": step, **measure_once(method, probe, truth)})
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()


def measure_once(method: Method, probe: Probe, truth: float) -> dict[str, float]:
    unit = gradient_seconds(probe)
    found: list[tuple[float, int]] = []
    seconds = cpu_seconds(lambda: found.append(method.measure(probe, method.memory)))
    value, products = found[0]
    error = abs(value - truth) / truth
    return {"value": value, "truth": truth, "error": error, "products": products, "gradients": seconds / unit}


def summary(method: Method) -> dict[str, Any]:
    """Over all probes but the first, which has nothing to start from."""
    rows = method.rows[1:]
    errors = sorted(row["error"] for row in rows)
    return {
        "method": method.name,
        "probes": len(rows),
        "mean_products": statistics.fmean(row["products"] for row in rows),
        "max_products": max(row["products"] for row in rows),
        "median_gradients": statistics.median(row["gradients"] for row in rows),
        "median_error": statistics.median(errors),
        "error_95": errors[math.ceil(0.95 * len(errors)) - 1],
        "max_error": errors[-1],
        "share_within_5_percent": sum(error <= 0.05 for error in errors) / len(errors),
        "rows": method.rows,
    }


def installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def print_table(workload: Workload, summaries: list[dict[str, Any]]) -> None:
    print(f"\n{workload.name}: largest Hessian eigenvalue, every {PROBE_EVERY} steps of training")
    print(
        f"{'':46s} {'probes':>6s} {'products':>12s} {'gradients':>9s} {'error: median':>13s} {'95 %':>8s} {'max':>8s}"
    )
    for row in summaries:
        products = f"{row['mean_products']:.1f} (max {row['max_products']:.0f})"
        print(
            f"{row['method']:46s} {row['probes']:6d} {products:>12s} {row['median_gradients']:9.1f} "
            f"{row['median_error']:13.1e} {row['error_95']:8.1e} {row['max_error']:8.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # deprecations inside the peers
    results, step_probes = {}, {}
    for workload in WORKLOADS:
        step_probes[workload.name] = step_probe_rows(workload)
        print_step_probes(workload, step_probes[workload.name])
        methods = lanczos_methods()
        track(workload, arguments.steps, methods)
        results[workload.name] = [summary(method) for method in methods]
        print_table(workload, results[workload.name])
    write_results("probe_cost", steps=arguments.steps, step_probes=step_probes, results=results)


if __name__ == "__main__":
    main()
