"""A picture of a run, in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from dcao.checks import require_instance
from dcao.plotting.marks import marks_of
from dcao.plotting.panels import NAMES, panels_of
from dcao.plotting.reading import records_of
from dcao.policies.base import Policy
from dcao.spectra.density import SpectralDensity
from dcao.telemetry import StepRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(
    records: Iterable[StepRecord] | str | os.PathLike[str],
    *,
    panels: Sequence[str] | None = None,
    densities: Mapping[int, SpectralDensity] | None = None,
    policy: Policy | None = None,
) -> Figure:
    """A figure of a run: what was measured and decided, over the optimizer steps. Needs ``pip install '.[plot]'``.

    Panels stand below each other: ``"loss"``, ``"lr"`` (that trains from there on), ``"relative_step"`` with the limit
    of the policy, ``"s"`` with its edge at 2 (both as a probe has measured them, at the lr before its decision),
    ``"ritz_values"`` of the Hessian, ``"preconditioned"`` (the largest Ritz value of the preconditioned Hessian, with
    the optimizer's threshold) and ``"density"``. Marks across them say where lr arrived at its ceiling, where the loss
    turned up and the run was turned back, where it had blown up and was restored, and which steps were skipped.

    What is not finite or was not measured is a gap; triangles point to values beyond an axis. Long runs are thinned so
    that extremes stay.

    Args:
        records: Records, such as those of a :class:`dcao.MemoryRecorder`; the path of a :class:`dcao.JsonlRecorder`'s
            file, also while it is written; or the folder of a run of ``dcao-lab``.
        panels: Names of the panels, from top to bottom. Default: all that have something to show.
        densities: Spectral densities by step (:func:`dcao.spectral_density`), which records do not hold.
        policy: The policy that decided, whose limit on the relative step is drawn. Default: where a
            :class:`dcao.policies.Ceiling` has decided, the limit that it has by default.

    Returns:
        A ``matplotlib.figure.Figure``, which pyplot does not know of: ``figure.savefig("run.png")`` writes it, and
        ``figure.axes`` has its panels, by name in ``axes.get_label()``.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError, ValueError, FileNotFoundError: An argument is wrong, or there is nothing to show.

    Example:
        >>> import torch
        >>> from dcao import DCAO, MemoryRecorder
        >>> weights, recorder = torch.nn.Parameter(torch.ones(3)), MemoryRecorder()
        >>> optimizer = DCAO(torch.optim.SGD([weights], lr=1e-3), recorder=recorder)
        >>> for _ in range(30):
        ...     loss = optimizer.minimize(lambda: weights.square().sum())
        >>> [axes.get_label() for axes in plot(recorder.records).axes]
        ['loss', 'lr', 'relative_step', 's']
    """
    names = _checked_names(panels)
    densities = _checked_densities(densities)
    if policy is not None:
        require_instance("policy", policy, Policy, fix="optimizer.policy is one")
    found = records_of(records)
    try:
        from dcao.plotting.drawing import draw
    except ImportError as error:
        raise ImportError("dcao.plot needs matplotlib, which the extra plot brings: pip install '.[plot]'") from error
    return draw(panels_of(found, policy, names=names, has_densities=bool(densities)), marks_of(found), densities)


def _checked_names(panels: Sequence[str] | None) -> Sequence[str] | None:
    if panels is None:
        return None
    rule = f"panels must be a list of some of {', '.join(NAMES)}"
    if isinstance(panels, str):
        raise TypeError(f"{rule}, got the name {panels!r}; write panels=[{panels!r}]")
    names = list(panels)
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise ValueError(f"{rule}, got {unknown[0] if unknown else names!r}; leave it out for all that there are")
    if len(set(names)) < len(names):
        raise ValueError(f"{rule}, each once, got {names!r}; leave out what is there twice")
    return names


def _checked_densities(densities: Mapping[int, SpectralDensity] | None) -> Mapping[int, SpectralDensity]:
    rule = "densities must map steps to a dcao.SpectralDensity each"
    if densities is None:
        return {}
    if not isinstance(densities, Mapping):
        raise TypeError(f"{rule}, got {type(densities).__name__}; densities={{step: density}}")
    for step, density in densities.items():
        if isinstance(step, bool) or not isinstance(step, int):
            raise TypeError(f"{rule}, got the step {step!r}; densities={{step: density}}")
        if not isinstance(density, SpectralDensity):
            raise TypeError(
                f"{rule}, got {type(density).__name__} at step {step}; dcao.spectral_density(...) gives one"
            )
    if densities and not any(bool(density.nodes.isfinite().any()) for density in densities.values()):
        raise ValueError(f"{rule} that has a finite eigenvalue, got none in {len(densities)}; their status says why")
    return densities
