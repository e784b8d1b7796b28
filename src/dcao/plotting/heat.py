"""Spectral densities over the steps, as one image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, LogNorm
from matplotlib.ticker import LogLocator, NullLocator

from dcao.plotting.inks import SMALL
from dcao.spectra.density import SpectralDensity

NUM_GRID = 240  # heights of the image: as many as a panel has pixels
DECADES = 4.0  # of density below the highest that have a shade


def draw_densities(axes: Axes, densities: Mapping[int, SpectralDensity]) -> None:
    """Draw them: darker where there are more eigenvalues, with a bar that says how many."""
    steps = sorted(densities)
    grid = grid_of(densities)
    columns = [_column(densities[step], grid) for step in steps]
    image = torch.stack(columns, dim=1)
    highest = float(image[image.isfinite()].max())
    low, high = float(grid[0]), float(grid[-1])
    half = 0.5 * (high - low) / (len(grid) - 1)
    heights = torch.linspace(low - half, high + half, len(grid) + 1, dtype=torch.float64)
    mesh = axes.pcolormesh(
        edges_between(steps),
        heights.tolist(),
        image.tolist(),
        norm=LogNorm(vmin=highest * 10.0**-DECADES, vmax=highest),
        cmap=_shades(),
        rasterized=True,
    )
    beside = axes.inset_axes((1.015, 0.0, 0.015, 1.0))
    bar = axes.figure.colorbar(mesh, cax=beside, ticks=LogLocator(numticks=4))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.set_label("density\n(share per unit)", fontsize=SMALL)
    axes.set_ylim(float(heights[0]), float(heights[-1]))


def _shades() -> Colormap:
    """From a blue that can be seen to a dark one; less than the least is not drawn at all."""
    palest = 0.2  # of a scale of blues that begins with white
    shades = [colormaps["Blues"](palest + (1.0 - palest) * number / 255) for number in range(256)]
    return ListedColormap(shades).with_extremes(under=(0.0, 0.0, 0.0, 0.0))


def grid_of(densities: Mapping[int, SpectralDensity]) -> torch.Tensor:
    """``(NUM_GRID,)`` eigenvalues from a little below the smallest to a little above the largest."""
    nodes = torch.cat([density.nodes for density in densities.values()])
    nodes = nodes[nodes.isfinite()]
    low, high = float(nodes.min()), float(nodes.max())
    margin = 0.04 * (high - low) or 0.1 * abs(high) or 1.0
    return torch.linspace(low - margin, high + margin, NUM_GRID, dtype=torch.float64)


def edges_between(steps: list[int]) -> list[float]:
    """Where the column of each step begins, and where the last one ends: halfway to the next.

    Example:
        >>> edges_between([0, 10, 30]), edges_between([7])
        ([-5.0, 5.0, 20.0, 40.0], [6.5, 7.5])
    """
    if len(steps) == 1:
        return [steps[0] - 0.5, steps[0] + 0.5]
    between = [(first + second) / 2 for first, second in pairwise(steps)]
    return [2 * steps[0] - between[0], *between, 2 * steps[-1] - between[-1]]


def _column(density: SpectralDensity, grid: torch.Tensor) -> torch.Tensor:
    """The density on the grid; nan, which has no shade, where nothing was measured."""
    if not len(density.nodes) or not bool(density.nodes.isfinite().all()):
        return torch.full_like(grid, math.nan)
    spacing = float(grid[1] - grid[0])
    widest = float(density.nodes.max() - density.nodes.min()) / 100  # as SpectralDensity.density has it
    return density.density(grid, sigma=max(widest, spacing))
