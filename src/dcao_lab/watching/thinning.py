"""Few points that look like many."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def thinned(steps: Sequence[float], values: Sequence[float], most: int) -> tuple[Numbers, Numbers]:
    """At most ``most`` finite points of a curve, and one nan in each gap between two of them.

    The points are those of Largest Triangle Three Buckets (Steinarsson 2013, "Downsampling Time Series for Visual
    Representation", algorithm 4.2): the first, the last, and from each bucket between them the one that spans the
    largest triangle with the point chosen before and the mean of the next bucket.

    Example:
        >>> [kept.tolist() for kept in thinned(range(7), [0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 1.0], most=4)]
        [[0.0, 2.0, 3.0, 6.0], [0.0, 9.0, 0.0, 1.0]]
    """
    x, y = np.array(steps, dtype=float), np.array(values, dtype=float)
    finite = np.flatnonzero(np.isfinite(y))
    kept = finite[_largest_triangles(x[finite], y[finite], most)]
    gaps = _gaps_between(kept, np.flatnonzero(~np.isfinite(y)))
    order = np.sort(np.concatenate([kept, gaps]))
    return x[order], np.where(np.isfinite(y[order]), y[order], np.nan)


def _gaps_between(kept: npt.NDArray[np.intp], gaps: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The first gap after each kept point, and before the first."""
    _, first = np.unique(np.searchsorted(kept, gaps), return_index=True)
    return gaps[first]


def _largest_triangles(x: Numbers, y: Numbers, most: int) -> npt.NDArray[np.intp]:
    if most < 3:
        raise ValueError(f"most must be at least 3, the ends and a point between them, got {most}")
    if len(x) <= most:
        return np.arange(len(x))
    edges = np.linspace(1, len(x) - 1, most - 1).astype(int)  # of most - 2 buckets between the ends
    chosen = [0]
    for number, (begin, end) in enumerate(pairwise(edges)):
        after = slice(end, edges[number + 2] if number + 2 < len(edges) else len(x))
        last, mean_x, mean_y = chosen[-1], x[after].mean(), y[after].mean()
        with np.errstate(over="ignore", invalid="ignore"):  # a loss of 1e300 spans a triangle like any other
            twice_the_area = np.abs(
                (x[last] - mean_x) * (y[begin:end] - y[last]) - (x[last] - x[begin:end]) * (mean_y - y[last])
            )
        chosen.append(begin + int(twice_the_area.argmax()))
    return np.array([*chosen, len(x) - 1])
