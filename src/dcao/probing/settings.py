"""What a probe measures and how."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from dcao.checks import require_number, require_whole
from dcao.layout import refuse_unknown_parts
from dcao.operators.hvp import HvpKind
from dcao.probing.estimate import Measure
from dcao.shards import is_shard


@dataclass(frozen=True)
class ProbeSettings:
    """What a probe measures and how. ``DCAO(base, measure=ProbeSettings("hessian", k=10, hvp="central"))``.

    Args:
        measure: How s, the stability number with its edge at 2, is measured: ``"load"`` (mini-batch curvature along the
            step, signal and noise apart; 1 gradient evaluation a probe), ``"batch"`` (the same without momentum),
            ``"preconditioned"`` (largest eigenvalue of ``P^-1/2 H P^-1/2``) or ``"hessian"`` (the proposal's
            ``lr * lambda_max``; meaningful for SGD alone).
        k: Eigenpairs of a spectrum. The measures ``"hessian"`` and ``"preconditioned"`` follow the largest alone.
        num_lanczos_steps: Products of a Lanczos run at most; each run for the largest eigenvalue of the Hessian is then
            for all k pairs. Default: as many as :func:`dcao.lanczos` takes.
        tolerance: Relative residual at which a Lanczos run stops. Default: 0.01 for a spectrum, 0.05 to follow the
            largest eigenvalue from probe to probe.
        hvp: ``"auto"``: one-sided differences along the step (the training batch's gradient is there already), and
            for Lanczos exact products, with central differences where torch refuses them. Or ``"exact"``,
            ``"central"``, ``"forward"``.
        step_length: Length of finite differences in parameter space. Default: what suits rounding
            (:func:`dcao.operators.default_step_length`), so that s is the Hessian's. ``"step"``: along the step, the
            length of the step itself, so that s is the curvature which such a step meets, kinks included.
        momentum_aware: Take the measure ``"hessian"`` relative to ``2 (1 + momentum) / lr``.
        smallest: Also measure the smallest eigenvalue whenever the largest of the Hessian is measured.
        groups: Indices of the param groups whose curvature is measured; default all.
        basis_dtype: Dtype of the Lanczos basis, for example ``torch.bfloat16`` for a large model. Default: that of the
            vectors.
        basis_device: Device of the Lanczos basis, for example ``"cpu"``. Default: that of the parameters.

    Raises:
        TypeError, ValueError: On a wrong value, with the rule, the value and the fix.

    Example:
        >>> ProbeSettings("hessian", k=3).k
        3
    """

    measure: Measure = "load"
    _: KW_ONLY
    k: int = 5
    num_lanczos_steps: int | None = None
    tolerance: float | None = None
    hvp: HvpKind = "auto"
    step_length: float | Literal["step"] | None = None
    momentum_aware: bool = False
    smallest: bool = False
    groups: tuple[int, ...] | None = None
    basis_dtype: torch.dtype | None = None
    basis_device: torch.device | str | None = None

    def __post_init__(self) -> None:
        if self.measure not in get_args(Measure):
            raise ValueError(f"measure must be one of {', '.join(get_args(Measure))}, got {self.measure!r}")
        require_whole("k", self.k, "eigenpair")
        if self.num_lanczos_steps is not None:
            require_whole("num_lanczos_steps", self.num_lanczos_steps, "step")
        if self.num_lanczos_steps is not None and self.num_lanczos_steps < self.k:
            raise ValueError(f"num_lanczos_steps must be at least k = {self.k}, got {self.num_lanczos_steps}")
        if self.tolerance is not None:
            require_number("tolerance", self.tolerance)
        if self.tolerance is not None and not 0.0 < self.tolerance < math.inf:
            raise ValueError(f"tolerance must be positive and finite, got {self.tolerance}")
        if self.hvp not in get_args(HvpKind):
            raise ValueError(f"hvp must be one of {', '.join(get_args(HvpKind))}, got {self.hvp!r}")
        length = self.step_length
        is_number = isinstance(length, (int, float)) and not isinstance(length, bool)
        if length is not None and length != "step" and not (is_number and 0.0 < float(length) < math.inf):
            raise ValueError(f'step_length must be positive and finite, "step" or None, got {length!r}')
        if self.groups is not None and not isinstance(self.groups, (tuple, list)):
            raise TypeError(f"groups must be a tuple of indices, got {self.groups!r}; write ({self.groups!r},)")
        if not all(isinstance(index, int) and not isinstance(index, bool) for index in self.groups or ()):
            raise TypeError(f"groups must be a tuple of indices, got {self.groups!r}; param groups are numbered from 0")
        if self.groups is not None and not self.groups:
            raise ValueError("groups must name at least one param group, got none; leave it out to measure all")
        if len(set(self.groups or ())) < len(self.groups or ()):
            raise ValueError(f"groups must name each param group once, got {self.groups!r}")
        self._check_basis()

    def _check_basis(self) -> None:
        dtype, device = self.basis_dtype, self.basis_device
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise TypeError(f"basis_dtype must be a real floating-point dtype, got {dtype!r}; torch.bfloat16 is one")
        try:
            device is None or torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f'basis_device must be a device, got {device!r}; "cpu" is one') from error


def require_measurable(params: Sequence[Tensor], settings: ProbeSettings) -> None:
    """Check that parameters can be measured as the settings say.

    Before each probe, because a trainer may shard a model after its optimizer was built.

    Raises:
        ValueError: This process holds parts of them that do not say which they are, or ``settings`` ask for exact
            products with shards.
    """
    refuse_unknown_parts(params)
    if settings.hvp == "exact" and any(map(is_shard, params)):
        raise ValueError(
            'hvp must not be "exact" where the parameters are in shards (fully_shard, tensor parallelism): double '
            'backward does not pass through the hooks that gather them; leave hvp out, or take "central"'
        )
