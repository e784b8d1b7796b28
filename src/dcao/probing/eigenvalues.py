"""Eigenvalues by Lanczos: the measures ``hessian`` and ``preconditioned``, and spectra that only inform."""

from __future__ import annotations

from dcao.blocks import blocks, joined
from dcao.operators.base import LinearOperator
from dcao.operators.preconditioned import PreconditionedOperator
from dcao.operators.scaled import ScaledOperator
from dcao.operators.shifted import DiagonalShift
from dcao.probing.along_step import relative_step
from dcao.probing.estimate import Reading, ritz_trust
from dcao.probing.memory import ProbeMemory
from dcao.probing.probed_loss import ProbedLoss
from dcao.spectra.lanczos import LanczosResult, LanczosStatus, lanczos
from dcao.updates.stability import stability_number

SPECTRUM_TOLERANCE = 0.01
"""Relative residual of each of the k pairs of a spectrum; values are then good to about its square."""

TRACKING_TOLERANCE = 0.05
"""The same where one eigenvalue is followed from probe to probe: 2.6 to 3.3 products a probe, at most 3.3 % off the
truth in three training runs (benchmarks/probe_cost.py); with 10 % it was 24 % off once."""

FRESH_EVERY = 10
"""Runs after which one starts from a random vector again. Nearly all of a start made of the last Ritz vector lies along
it, so that a run could follow an eigenvalue for long after another has overtaken it: over six courses in which one grew
by 0.5 to 10 % a probe, the followed one was 15 to 31 % low at worst, and 1 to 15 % with this, for half a product more a
probe. Not where the caller has set the number of products, since a fresh start needs more of them than a warm one."""


def read_hessian(loss: ProbedLoss, memory: ProbeMemory, *, spectrum: bool) -> Reading:
    """The largest eigenvalue of the Hessian; the k largest for a spectrum; the smallest too if that is asked for."""
    settings, step, hessian = loss.settings, loss.step, loss.hessian()
    everything = spectrum or settings.num_lanczos_steps is not None
    k, tolerance = (settings.k, SPECTRUM_TOLERANCE) if everything else (1, TRACKING_TOLERANCE)
    found = _lanczos(loss, memory, "hessian", hessian, k=k, tolerance=tolerance)
    sharpness, smallest = _leading(found), None
    if settings.smallest:
        smallest = _leading(_lanczos(loss, memory, "smallest", hessian, k=1, tolerance=TRACKING_TOLERANCE))
    stability = {}
    if sharpness is not None:
        # The proposal's lr * lambda_max; relative to 2 (1 + mu) / lr if momentum-aware.
        stability["hessian"] = step.lr * sharpness / (1.0 + step.momentum if settings.momentum_aware else 1.0)
    return Reading(
        stability=stability,
        trust=ritz_trust(found),
        reason=_why_not_converged(found),
        fields={
            "sharpness": sharpness,
            "ritz_values": tuple(found.ritz_values.tolist()),
            "residuals": tuple(found.residuals.tolist()),
            "smallest": smallest,
            "status": found.status,
            **_length_if_it_decides(loss, memory, "hessian"),
        },
    )


def read_preconditioned(loss: ProbedLoss, memory: ProbeMemory) -> Reading:
    """The largest eigenvalue of ``P^-1/2 (H + l2_decay I) P^-1/2``: coupled decay belongs to the curvature."""
    step = loss.step
    first = loss.batches[0]
    hessian = loss.hessian()
    if first.stepping is not None and step.is_preconditioned:  # P has seen the gradients that step
        factor = first.stepping.clip if first.is_training else first.stepping.factor
        hessian = ScaledOperator(hessian, factor) if factor != 1.0 else hessian
    decayed = hessian
    if step.has_coupled_decay:
        decays = joined(step.l2_decay(), step.params, dtype=step.dtype, device=hessian.device)
        decayed = DiagonalShift(hessian, decays)
    gradient = step.with_coupled_decay(blocks(first.taken, dtype=step.dtype))
    operator = PreconditionedOperator(decayed, step.inverse_sqrt(gradient))
    found = _lanczos(loss, memory, "preconditioned", operator, k=1, tolerance=TRACKING_TOLERANCE)
    largest, stability = _leading(found), {}
    if largest is not None:
        stability["preconditioned"] = stability_number(largest, step.dynamics.curvature_limit)
    return Reading(
        stability=stability,
        trust=ritz_trust(found),
        reason=_why_not_converged(found),
        fields={
            "preconditioned_sharpness": largest,
            "status": found.status,
            **_length_if_it_decides(loss, memory, "preconditioned"),
        },
    )


def _length_if_it_decides(loss: ProbedLoss, memory: ProbeMemory, measure: str) -> dict[str, float | None]:
    """The relative step, where s is by this measure; elsewhere the measure along the step has it."""
    return {"relative_step": relative_step(loss, memory)} if loss.settings.measure == measure else {}


def _lanczos(
    loss: ProbedLoss, memory: ProbeMemory, name: str, operator: LinearOperator, *, k: int, tolerance: float
) -> LanczosResult:
    settings, start, num_runs = loss.settings, memory.starts.get(name), memory.num_runs.get(name, 0)
    is_fresh = settings.num_lanczos_steps is None and num_runs % FRESH_EVERY == 0
    is_usable = start is not None and start.shape[-1] == operator.size and not is_fresh
    memory.num_runs[name] = num_runs + 1
    result = lanczos(
        operator,
        k=k,
        num_steps=settings.num_lanczos_steps,
        which="smallest" if name == "smallest" else "largest",
        start=start if is_usable else None,
        tolerance=tolerance if settings.tolerance is None else settings.tolerance,
        vectors=True,
        basis_dtype=settings.basis_dtype,
        basis_device=settings.basis_device,
        generator=memory.generator,
    )
    if result.ritz_vectors is not None and result.status is not LanczosStatus.NONFINITE:
        memory.starts[name] = result.ritz_vectors
    loss.num_matvecs += result.num_matvecs
    return result


def _leading(result: LanczosResult) -> float | None:
    return float(result.ritz_values[0]) if len(result.ritz_values) else None


def _why_not_converged(result: LanczosResult) -> str:
    return "" if result.status is LanczosStatus.CONVERGED else result.reason
