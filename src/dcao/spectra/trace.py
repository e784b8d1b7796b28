"""Trace of an operator from products with random vectors, with a standard error."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dcao.draws import random_in
from dcao.isolation import without_autocast
from dcao.layout import WHOLE
from dcao.operators.base import LinearOperator, LossFn, gradient_evaluations
from dcao.operators.hvp import HvpKind, make_hessian
from dcao.spectra.recurrences import product
from dcao.uncompiled import uncompiled
from dcao.vectors import DEFAULT_SEED, seeded

TraceMethod = Literal["hutchinson", "hutch++"]


@dataclass(frozen=True, kw_only=True)
class TraceResult:
    """An unbiased estimate of a trace.

    Attributes:
        trace: The estimate; ``nan`` if a product was not finite.
        standard_error: Standard error of ``trace``, estimated from the same samples. For ``"hutch++"`` it is that of
            the random part.
        num_matvecs: Number of products with the operator.
        cost: Cost of these products, in gradient evaluations.
    """

    trace: float
    standard_error: float
    num_matvecs: int
    cost: float


@uncompiled
def hessian_trace(
    loss_fn: LossFn,
    params: Iterable[Tensor],
    *,
    num_samples: int = 30,
    method: TraceMethod = "hutchinson",
    hvp: HvpKind = "auto",
    generator: torch.Generator | None = None,
) -> TraceResult:
    """Trace of the loss Hessian. Leaves no trace on the model.

    Args:
        loss_fn: Returns the scalar loss; never calls ``backward``.
        params: Parameters to differentiate by; those that require grad are used.
        num_samples: As for :func:`operator_trace`.
        method: As for :func:`operator_trace`.
        hvp: How to multiply by the Hessian (:func:`dcao.operators.make_hessian`).
        generator: For the random vectors; default: seed 0.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> hessian_trace(lambda: (w**3).sum(), [w]).trace  # diagonal, so that every sample is exact
        18.0
    """
    return operator_trace(
        make_hessian(loss_fn, params, hvp=hvp), num_samples=num_samples, method=method, generator=generator
    )


@without_autocast()
def operator_trace(
    operator: LinearOperator,
    *,
    num_samples: int = 30,
    method: TraceMethod = "hutchinson",
    generator: torch.Generator | None = None,
) -> TraceResult:
    """Unbiased estimate of the trace with ``num_samples`` products.

    Args:
        operator: Symmetric operator.
        num_samples: Number of products. The standard error falls with its square root (``"hutchinson"``), or faster if
            few eigenvalues dominate (``"hutch++"``). Default 30: the standard error is then itself known to 13 %.
        method: ``"hutchinson"``: the mean of ``z'Az`` over Rademacher ``z``; it holds two vectors. ``"hutch++"`` (Meyer
            et al. 2021): a third of the products find a subspace, another third takes its trace exactly, and the last
            third samples the rest; it holds ``2/3 * num_samples`` vectors.
        generator: For the random vectors; default: seed 0.

    Raises:
        ValueError: ``num_samples`` is too small for a standard error (2, or 6 for ``"hutch++"``), ``method`` is
            unknown, or it is ``"hutch++"`` and the parameters are in shards.
    """
    generator = generator if generator is not None else seeded(DEFAULT_SEED)
    cost_before = gradient_evaluations(operator, 0)
    if method == "hutch++" and operator.layout is not WHOLE:
        raise ValueError('method must be "hutchinson" for parameters in shards; "hutch++" factors whole vectors')
    if method == "hutchinson":
        _check_samples(num_samples, 2)
        exact, samples, used = 0.0, _hutchinson(operator, None, num_samples, generator), num_samples
    elif method == "hutch++":
        _check_samples(num_samples, 6)
        third = min(num_samples // 3, operator.size)
        Q = _range(operator, third, generator)  # (size, rank)
        exact = sum(float(torch.dot(q, product(operator, q))) for q in Q.T.contiguous())
        samples, used = _hutchinson(operator, Q, third, generator), 2 * third + Q.shape[1]
    else:
        raise ValueError(f'method must be "hutchinson" or "hutch++", got {method!r}')
    mean, error = _mean_and_error(samples)
    return TraceResult(
        trace=exact + mean,
        standard_error=error,
        num_matvecs=used,
        cost=gradient_evaluations(operator, used) - cost_before,
    )


def _check_samples(num_samples: int, least: int) -> None:
    if num_samples < least:
        raise ValueError(f"num_samples must be at least {least}, to give a standard error, got {num_samples}")


def _hutchinson(
    operator: LinearOperator, Q: Tensor | None, num_samples: int, generator: torch.Generator
) -> list[float]:
    """Samples of ``z'Az`` with ``z`` projected orthogonal to the columns of ``Q``."""
    samples = []
    for _ in range(num_samples):
        z = _rademacher(operator, generator)
        if Q is not None:
            z.addmv_(Q, Q.T @ z, alpha=-1.0)
        samples.append(float(operator.layout.dot(z, product(operator, z))))
    return samples


def _range(operator: LinearOperator, rank: int, generator: torch.Generator) -> Tensor:
    columns = [product(operator, _rademacher(operator, generator)) for _ in range(rank)]
    Q, R = torch.linalg.qr(torch.stack(columns, dim=1))
    diagonal = R.diagonal().abs()
    # A linearly dependent column is nothing but rounding. It would do no harm as a direction, but cost a product.
    kept: Tensor = Q[:, diagonal > 16 * torch.finfo(operator.dtype).eps * diagonal.max()]
    return kept


def _rademacher(operator: LinearOperator, generator: torch.Generator) -> Tensor:
    return random_in(
        operator.layout,
        operator.size,
        kind="rademacher",
        generator=generator,
        device=operator.device,
        dtype=operator.dtype,
    )


def _mean_and_error(samples: list[float]) -> tuple[float, float]:
    mean = sum(samples) / len(samples)
    if len(samples) < 2:
        return mean, math.nan
    variance = sum((sample - mean) ** 2 for sample in samples) / (len(samples) - 1)
    return mean, math.sqrt(variance / len(samples))
