"""The curvature of a trained network's loss: sharpness, trace and spectral density."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

import dcao
from dcao_lab.baselines import watch
from dcao_lab.norms import trainable
from dcao_lab.runs.metrics import number
from dcao_lab.runs.training import evaluation_mode
from dcao_lab.workloads import Problem
from dcao_lab.workloads.base import Batch

NUM_BATCHES = 4  # their graph is held at once while products are made
NUM_DENSITY_SAMPLES = 2  # of 30 products each; among 1e4 parameters one start is close to their mean
MEASURED = "measured"
# What torch and dcao raise at what they cannot measure; torch's OutOfMemoryError is a RuntimeError.
_FAILURES = (RuntimeError, ValueError, TypeError, NotImplementedError, ArithmeticError)

Measurements = dict[str, Any]


def measure_solution(
    problem: Problem, optimizer: torch.optim.Optimizer, batches: Iterator[Batch], seed: int
) -> Measurements:
    """Curvature of the mean training loss over the first ``NUM_BATCHES`` of ``batches``, as JSON has it.

    In eval mode, so without dropout and with the running statistics of batch norms. With ``batches`` from a fresh start
    of the workload, runs of one seed are measured on the same data. Nothing is raised: what failed is None, and a
    status says why. The same run gives the same numbers.

    Returns:
        ``sharpness``: largest eigenvalue of the Hessian, with its ``sharpness_residual`` (some eigenvalue is so close).
        ``trace``, ``trace_standard_error``: of the Hessian, by random probing.
        ``density``: ``nodes`` and ``weights`` of the spectral density, whose weights sum to 1.
        ``status``: ``"measured"``, or why these are None.
        ``preconditioned_sharpness``: largest eigenvalue of ``P^-1/2 H P^-1/2``, P from the optimizer's state.
        ``preconditioned_status``: ``"measured"``, or why that is None; DCAO cannot model every optimizer.
        ``num_products``: Hessian-vector products made.
        ``cost``: what they cost, in gradient evaluations of one batch; no part of the run's own.
        ``num_batches``: batches measured on.
    """
    fixed = list(itertools.islice(batches, NUM_BATCHES))

    def loss_fn() -> Tensor:
        return torch.stack([problem.loss(batch) for batch in fixed]).mean()

    params = trainable(problem.model)
    with evaluation_mode(problem.model, optimizer):
        hessian = _attempt(lambda: _hessian(loss_fn, params), _NO_HESSIAN, "status")
        preconditioned = _attempt(
            lambda: _preconditioned(loss_fn, optimizer, seed), _NO_PRECONDITIONED, "preconditioned_status"
        )
    products = hessian.pop("num_products") + preconditioned.pop("num_products")
    cost = len(fixed) * (hessian.pop("cost") + preconditioned.pop("cost"))
    return {**hessian, **preconditioned, "num_products": products, "cost": cost, "num_batches": len(fixed)}


_NO_HESSIAN: Measurements = {
    "sharpness": None,
    "sharpness_residual": None,
    "trace": None,
    "trace_standard_error": None,
    "density": None,
    "num_products": 0,
    "cost": 0.0,
}
_NO_PRECONDITIONED: Measurements = {"preconditioned_sharpness": None, "num_products": 0, "cost": 0.0}


def _attempt(measure: Callable[[], Measurements], nothing: Measurements, status: str) -> Measurements:
    try:
        return {**measure(), status: MEASURED}
    except _FAILURES as error:
        return {**nothing, status: f"{type(error).__name__}: {error}"}


def _hessian(loss_fn: Callable[[], Tensor], params: Sequence[Tensor]) -> Measurements:
    _require_finite(loss_fn)
    top = dcao.hessian_spectrum(loss_fn, params, 1)
    trace = dcao.hessian_trace(loss_fn, params)
    density = dcao.spectral_density(loss_fn, params, num_samples=NUM_DENSITY_SAMPLES)
    if not len(top.ritz_values) or not math.isfinite(trace.trace):
        raise ArithmeticError("a product with the Hessian has nan or inf")
    return {
        "sharpness": float(top.ritz_values[0]),
        "sharpness_residual": float(top.residuals[0]),
        "trace": trace.trace,
        "trace_standard_error": trace.standard_error,
        "density": {"nodes": density.nodes.tolist(), "weights": density.weights.tolist()},
        "num_products": top.num_matvecs + trace.num_matvecs + density.num_matvecs,
        "cost": top.cost + trace.cost + density.cost,
    }


def _preconditioned(loss_fn: Callable[[], Tensor], optimizer: torch.optim.Optimizer, seed: int) -> Measurements:
    _require_finite(loss_fn)
    with _positive_lrs(optimizer):
        estimate = watch(optimizer, "preconditioned", seed).probe(loss_fn)
    value = number(estimate.preconditioned_sharpness)
    if value is None:
        raise ArithmeticError(estimate.reason or "no finite value was measured")
    return {"preconditioned_sharpness": value, "num_products": estimate.num_matvecs, "cost": estimate.cost}


@contextlib.contextmanager
def _positive_lrs(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """A schedule ends at lr 0, which DCAO refuses. P depends on ratios of lrs alone, so the initial ones will do."""
    lrs = [group["lr"] for group in optimizer.param_groups]
    if not any(lrs):
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", 1.0)
    try:
        yield
    finally:
        for group, lr in zip(optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr


@torch.no_grad()
def _require_finite(loss_fn: Callable[[], Tensor]) -> None:
    loss = loss_fn().item()
    if not math.isfinite(loss):
        raise ArithmeticError(f"the training loss is {loss}")
