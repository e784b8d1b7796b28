"""The spectrum of a workload's loss Hessian after a few training steps, to look at."""

import math
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from rich.console import Console
from rich.table import Table

import dcao
from dcao_lab.baselines import BuildRequest, get_baseline, watch
from dcao_lab.config import require_lr_and_seed
from dcao_lab.errors import LabError
from dcao_lab.report import formats
from dcao_lab.runs.training import training_steps
from dcao_lab.workloads import StartRequest, get_workload

NUM_BINS = 15
BAR_WIDTH = 40
SMALLEST_SHARE = 1e-6  # of the eigenvalues, where a bar of the density begins


@dataclass(frozen=True, kw_only=True)
class MeasuredSpectrum:
    """What was measured on one training batch.

    Attributes:
        title: Workload, optimizer and step, in words.
        num_parameters: Size of the Hessian.
        top: The largest Ritz values with their residuals.
        trace: Its trace, by random probing.
        density: The distribution of its eigenvalues.
        preconditioned: Largest eigenvalue of P^-1/2 H P^-1/2, P from the optimizer's state.
        preconditioned_s: The stability number by it.
    """

    title: str
    num_parameters: int
    top: dcao.HessianSpectrum
    trace: dcao.TraceResult
    density: dcao.SpectralDensity
    preconditioned: float | None
    preconditioned_s: float | None


def measure(workload: str, *, optimizer: str, lr: float, seed: int, num_steps: int, k: int) -> MeasuredSpectrum:
    """Train for ``num_steps`` and measure the loss of the batch that comes next."""
    require_lr_and_seed(lr, seed)
    baseline = get_baseline(optimizer)
    found = get_workload(workload)
    info, problem = found.info, found.start(StartRequest(seed=seed))
    stepper = baseline.build(problem, BuildRequest(lr=lr, seed=seed))
    for _ in islice(training_steps(stepper, problem.loss, problem.batches), num_steps):
        pass
    loss_fn = partial(problem.loss, next(problem.batches))
    if not math.isfinite(loss_fn().item()):
        raise LabError(f"the loss is not finite after {num_steps} steps at lr={lr:g}; try a smaller --lr")
    params = list(problem.model.parameters())
    estimate = watch(stepper, "preconditioned", seed).probe(loss_fn)
    return MeasuredSpectrum(
        title=f"{info.title}, {baseline.title}, lr {lr:g}, after {formats.counted(num_steps, 'step')}",
        num_parameters=sum(param.numel() for param in params),
        top=dcao.hessian_spectrum(loss_fn, params, k),
        trace=dcao.hessian_trace(loss_fn, params),
        density=dcao.spectral_density(loss_fn, params),
        preconditioned=estimate.preconditioned_sharpness,
        preconditioned_s=estimate.s,
    )


def show(measured: MeasuredSpectrum, console: Console) -> None:
    """Print it as two tables and a few lines."""
    say = partial(console.print, highlight=False, soft_wrap=True)
    say(f"{measured.title}; {formats.count(measured.num_parameters)} parameters")
    console.print(_ritz_table(measured.top))
    say(f"Lanczos: {measured.top.status.value}; products: {measured.top.hvp}")
    say(
        f"trace {formats.significant(measured.trace.trace)} "
        f"± {formats.significant(measured.trace.standard_error, 2)} (standard error)"
    )
    say(
        f"preconditioned: largest eigenvalue {formats.significant(measured.preconditioned)}, "
        f"stability number {formats.significant(measured.preconditioned_s)} (edge at 2)"
    )
    console.print(_density_table(measured.density))
    cost = measured.top.cost + measured.trace.cost + measured.density.cost
    say(f"{formats.count(cost)} gradient evaluations for Ritz values, trace and density")


def bins(density: dcao.SpectralDensity, num_bins: int = NUM_BINS) -> list[tuple[float, float, float]]:
    """``(from, to, share of the eigenvalues)`` over the range of the eigenvalues, from the largest down."""
    low, high = float(density.nodes.min()), float(density.nodes.max())
    edges = torch.linspace(low, high, num_bins + 1, dtype=torch.float64)
    index = torch.bucketize(density.nodes, edges[1:-1])
    shares = torch.zeros(num_bins, dtype=torch.float64).index_add(0, index, density.weights)
    rows = zip(edges[:-1].tolist(), edges[1:].tolist(), shares.tolist(), strict=True)
    return sorted(rows, reverse=True)


def _ritz_table(top: dcao.HessianSpectrum) -> Table:
    table = Table("", "Ritz value", "residual", box=None, pad_edge=False)
    for rank, (value, residual) in enumerate(zip(top.ritz_values.tolist(), top.residuals.tolist(), strict=True)):
        table.add_row(str(rank + 1), formats.significant(value, 5), formats.scientific(residual, 2))
    return table


def _density_table(density: dcao.SpectralDensity) -> Table:
    table = Table("eigenvalues", "share", "(bars on a logarithmic scale)", box=None, pad_edge=False)
    for low, high, share in bins(density):
        span = f"{formats.significant(low)} to {formats.significant(high)}"
        table.add_row(span, formats.significant(share, 2), "█" * _bar_length(share))
    return table


def _bar_length(share: float) -> int:
    if share <= SMALLEST_SHARE:
        return 0
    return max(1, round(BAR_WIDTH * (1.0 - math.log(share) / math.log(SMALLEST_SHARE))))
