"""The length that a step is measured against: that of the weights which it moves.

The relative step ``l = ||d|| / ||w||`` says how far a step leads only if ``||w||`` belongs to what the step moves.
Three things would make it mean nothing, and are left out or replaced here:

- **Weights that do not move** (a row of an embedding that the batch does not touch, a parameter that the loss does not
  use, an input that is always 0): only entries that the displacement changes count.
- **A parameter in another unit** (an output bias at the target's mean, a temperature of 1000): one whose root mean
  square is over :data:`OUTLIER` times the median of all moving entries counts the less the larger it is.
- **Weights that start at zero** (a linear probe, LoRA's B, an adversarial perturbation) have no length at all. The
  length of the longest step that does not raise the loss takes its place (:func:`natural_length`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.linalg import vector_norm

from dcao.blocks import Entrywise, Vector, blocks, chosen, parts_of, spans
from dcao.layout import layout_of
from dcao.operators.finite_difference import step_length_at
from dcao.sums import nonzero_counts, numbers
from dcao.vectors import sizes_of

OUTLIER = 100.0
"""A parameter whose root mean square is this many times the median entry's is in another unit. The weights of LayerNorm
are 1 beside matrices of 0.02, which is a factor of 50 and ordinary."""

NEARLY_ZERO = 0.01
"""Weights shorter than this share of the natural length count as zero: in networks that start from random weights it
was 0.001 to 14 times as long as they are, on ten tasks with AdamW and SGD."""

LITTLE, MUCH = 0.1, 0.7
"""Changes of the slope between which it is told from rounding on one side, and has not levelled off on the other."""

MOST_EVALUATIONS = 10
"""Gradients that each part of the search for the natural length takes at most. From the default length of a difference
it takes 2 or 3, unless weights of 1 would be absurdly large or small."""

FARTHEST = 1e15
"""How far the search goes, as a multiple of the default length of a difference: weights of 1e11."""


@torch.no_grad()
def moving_length(params: Sequence[Tensor], displacement: Vector) -> float:
    """Length of the entries of ``params`` that ``displacement`` changes; a parameter that is far larger hardly counts.

    Example:
        >>> w, unused, offset = torch.full((300,), 0.1), torch.full((9,), 1e3), torch.tensor([1e4])
        >>> d = [torch.ones(300), torch.zeros(9), torch.ones(1)]
        >>> round(moving_length([w, unused, offset], [torch.cat(d)]), 4)  # 0.1 * sqrt(300)
        1.7321
    """
    weights, counts, norms = blocks(params), sizes_of(params), [list[Tensor]() for _ in params]
    for index, (span, count) in enumerate(zip(spans(params), nonzero_counts(displacement), strict=True)):
        moves, moving = chosen(displacement, [index]), chosen(weights, [index])
        if count < weights[index].numel():
            moving = Entrywise(lambda weight, move: weight * (move != 0.0), moving, moves)
        if span.stop == span.start + 1:
            counts[span.start], norms[span.start] = count, [vector_norm(part) for (part,) in parts_of(moving)]
            continue
        norms[span] = [[norm] for norm in torch._foreach_norm(torch.split(moving[0], counts[span]))]
        if count < weights[index].numel():
            counts[span] = map(int, numbers(map(torch.count_nonzero, torch.split(moves[0], counts[span]))))
    found = iter(numbers(norm for each in norms for norm in each))
    here = torch.tensor([math.hypot(*(next(found) for _ in each)) for each in norms], dtype=torch.float64)
    each, moved = layout_of(params).norm_and_sum_each(here, torch.tensor(counts))
    lengths = each.tolist()
    factors = _counted(lengths, moved.tolist())
    return math.hypot(*(length * factor for length, factor in zip(lengths, factors, strict=True)))


def _counted(lengths: Sequence[float], counts: Sequence[int]) -> list[float]:
    """The factor with which the length of each parameter counts.

    1 up to a root mean square of ``OUTLIER`` times the median, then falling with its square: what counts is continuous,
    and goes to zero for what lies far outside.
    """
    sizes = [length / math.sqrt(count) if count else 0.0 for length, count in zip(lengths, counts, strict=True)]
    largest = OUTLIER * _median(sizes, counts)
    return [1.0 if size <= largest else (largest / size) ** 2 for size in sizes]


def _median(values: Sequence[float], counts: Sequence[int]) -> float:
    """The smallest value that at least half of all entries do not exceed; ``counts`` entries have each value."""
    half, seen = sum(counts) / 2.0, 0
    for value, count in sorted(zip(values, counts, strict=True)):
        seen += count
        if seen >= half:
            return value
    return 0.0


def natural_length(slope: Callable[[float], float], start: float) -> float | None:
    """Length of the longest step in a direction that does not raise the loss, from the slopes along it.

    Where the slope flattens, it is twice the distance to where it would be gone if it went on in a straight line. Where
    it grows, as on a saddle, it is the distance over which it goes on growing. Neither depends on the unit of the loss,
    or on a constant in it, and both follow the unit of the weights.

    Args:
        slope: From a distance to the slope there, over that at distance 0; infinite or nan where there is none.
        start: The distance to try first.

    Returns:
        The length; None if the slope changes nowhere, or everywhere, within reach of the search.

    Example:
        >>> round(natural_length(lambda distance: 1.0 - distance / 200.0, start=1e-4), 6)  # a minimum 200 away
        400.0
        >>> natural_length(lambda distance: 1.0, start=1e-4) is None  # a straight line
        True
    """
    low, high, distance = 0.0, math.inf, start
    for _ in range(MOST_EVALUATIONS):
        there = slope(distance)
        change = abs(there - 1.0)
        if LITTLE <= change <= MUCH:
            return 2.0 * distance / change if there < 1.0 else _end_of_growth(slope, distance, there)
        if change < LITTLE:
            low, wanted = distance, distance * min(1e4, 0.4 / max(change, 1e-9))
        else:
            high, wanted = distance, distance * 0.03
        distance = wanted if low < wanted < high else math.sqrt(low * high)
        if distance > FARTHEST * start:
            return None
    return 2.0 * math.sqrt(low * high) if low > 0.0 and high < math.inf else None  # the slope jumps, as at a hinge


def _end_of_growth(slope: Callable[[float], float], distance: float, there: float) -> float:
    """The distance up to which a slope grows in proportion: three times further on, its change has not doubled."""
    length = 2.0 * distance / (there - 1.0)
    here = slope(length)
    for _ in range(MOST_EVALUATIONS):
        there = slope(3.0 * length)
        if not 2.0 * (here - 1.0) < there - 1.0 < math.inf:
            break
        length, here = 3.0 * length, there
    return length


def difference_length(
    params: Sequence[Tensor], moving: float, natural: float | None, *, precision: torch.dtype | None = None
) -> float:
    """Length of a one-sided difference along the step, which suits rounding.

    Args:
        params: What is probed.
        moving: The length of those weights that move.
        natural: The natural length, if they have started at zero. The difference is then a share of it, because beside
            zeros no difference is lost to rounding, and 1 may be far too long or far too short for these weights.
        precision: Half-precision dtype in which the difference is taken; None for float32 or wider.
    """
    if natural:
        return step_length_at(1.0, params, "forward", precision=precision) * max(natural, moving)
    return step_length_at(moving, params, "forward", precision=precision)
