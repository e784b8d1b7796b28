"""Spectral density by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dcao.operators.base import LinearOperator, LossFn
from dcao.operators.hvp import HvpKind, make_hessian
from dcao.spectra.lanczos import LanczosStatus, lanczos
from dcao.spectra.starts import random_direction
from dcao.uncompiled import uncompiled
from dcao.vectors import DEFAULT_SEED, seeded


@dataclass(frozen=True, kw_only=True)
class SpectralDensity:
    """The distribution of the eigenvalues as weighted points.

    Attributes:
        nodes: ``(points,)`` Ritz values of all samples, float64, ascending.
        weights: ``(points,)`` the share of all eigenvalues that each node represents, float64; they sum to 1.
        num_samples: Number of random start vectors.
        num_matvecs: Number of products with the operator.
        cost: Cost of these products, in gradient evaluations.
        status: ``NONFINITE`` if a sample met nan or inf (its steps before that are used), else ``INVARIANT`` if all
            samples exhausted their Krylov space, else ``MAX_STEPS``.
    """

    nodes: Tensor
    weights: Tensor
    num_samples: int
    num_matvecs: int
    cost: float
    status: LanczosStatus

    def density(self, grid: Tensor, sigma: float | None = None) -> Tensor:
        """Density at the points of ``grid``, each node widened to a Gaussian of standard deviation ``sigma``.

        ``sigma`` defaults to 1 % of the range of the nodes: the default numbers of steps and samples resolve nothing
        finer. The result has the shape of ``grid``; its integral is 1.
        """
        if sigma is None:
            sigma = max(float(self.nodes.max() - self.nodes.min()), 1e-12 * float(self.nodes.abs().max()), 1e-300) / 100
        if not 0.0 < sigma < math.inf:
            raise ValueError(f"sigma must be positive and finite, got {sigma}")
        offset = (grid.double().reshape(-1, 1).cpu() - self.nodes) / sigma  # (points of the grid, nodes)
        bumps = torch.exp(-0.5 * offset.square()) / (sigma * math.sqrt(2 * math.pi))
        return (bumps @ self.weights).reshape(grid.shape)

    def moment(self, power: int) -> float:
        """Mean of ``eigenvalue**power``: the trace of that power of the operator over the number of parameters."""
        return float(self.weights @ self.nodes**power)


@uncompiled
def spectral_density(
    loss_fn: LossFn,
    params: Iterable[Tensor],
    *,
    num_steps: int = 30,
    num_samples: int = 5,
    hvp: HvpKind = "auto",
    generator: torch.Generator | None = None,
) -> SpectralDensity:
    """Spectral density of the loss Hessian. Leaves no trace on the model.

    Args:
        loss_fn: Returns the scalar loss; never calls ``backward``.
        params: Parameters to differentiate by; those that require grad are used.
        num_steps: As for :func:`operator_density`.
        num_samples: As for :func:`operator_density`.
        hvp: How to multiply by the Hessian (:func:`dcao.operators.make_hessian`).
        generator: For the random starts; default: seed 0.

    Example:
        >>> w = torch.ones(50, requires_grad=True)
        >>> spectral_density(lambda: (w**2).sum(), [w]).nodes.unique()  # Hessian 2 * I
        tensor([2.], dtype=torch.float64)
    """
    operator = make_hessian(loss_fn, params, hvp=hvp)
    return operator_density(operator, num_steps=num_steps, num_samples=num_samples, generator=generator)


def operator_density(
    operator: LinearOperator,
    *,
    num_steps: int = 30,
    num_samples: int = 5,
    generator: torch.Generator | None = None,
) -> SpectralDensity:
    """Spectral density from ``num_samples`` Lanczos runs with random starts (Golub and Welsch; Ubaru et al. 2017).

    A run of ``num_steps`` reproduces the first ``2 * num_steps - 1`` moments of the spectral measure of its start
    vector exactly. The mean over random starts estimates the density of the operator.

    Args:
        operator: Symmetric operator.
        num_steps: Lanczos steps of each sample; more of them resolve finer detail.
        num_samples: Number of random starts; more of them scatter less.
        generator: For the random starts; default: seed 0.

    Raises:
        ValueError: ``num_samples`` or ``num_steps`` is below 1. nan and inf are a status, not an error.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    generator = generator if generator is not None else seeded(DEFAULT_SEED)
    nodes, weights, statuses, num_matvecs, cost = [], [], [], 0, 0.0
    for _ in range(num_samples):
        start = random_direction(operator, generator)
        result = lanczos(operator, num_steps=num_steps, start=start)
        statuses.append(result.status)
        num_matvecs, cost = num_matvecs + result.num_matvecs, cost + result.cost
        if len(result.alphas):
            values, S = torch.linalg.eigh(_tridiagonal(result.alphas, result.betas))
            nodes.append(values)
            weights.append(S[0].square())
    if not nodes:
        nothing = torch.empty(0, dtype=torch.float64, device="cpu")
        nodes, weights = [nothing], [nothing]
    order = torch.argsort(torch.cat(nodes))
    return SpectralDensity(
        nodes=torch.cat(nodes)[order],
        weights=torch.cat(weights)[order] / len(nodes),
        num_samples=num_samples,
        num_matvecs=num_matvecs,
        cost=cost,
        status=_overall(statuses),
    )


def _tridiagonal(alphas: Tensor, betas: Tensor) -> Tensor:
    T = torch.diag(alphas)
    if len(alphas) > 1:
        T = T + torch.diag(betas[:-1], 1) + torch.diag(betas[:-1], -1)
    return T


def _overall(statuses: list[LanczosStatus]) -> LanczosStatus:
    if LanczosStatus.NONFINITE in statuses:
        return LanczosStatus.NONFINITE
    return LanczosStatus.MAX_STEPS if LanczosStatus.MAX_STEPS in statuses else LanczosStatus.INVARIANT
