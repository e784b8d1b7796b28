"""Holm's correction for several comparisons."""

from collections.abc import Sequence
from dataclasses import replace

from statsmodels.stats.multitest import multipletests

from dcao_lab.statistics.paired import Comparison


def holm(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The comparisons in the given order, with ``p_holm``: their p-values corrected for the number of comparisons.

    The correction is for the comparisons that are passed and have a p-value. Pass all that a table shows, not only
    those that look good.

    Example:
        >>> from dcao_lab.statistics import compare
        >>> one = compare({0: 3.0, 1: 5.0, 2: 4.0}, {0: 1.0, 1: 2.0, 2: 3.0})
        >>> [found.p_holm for found in holm([one, one])]
        [0.5, 0.5]
    """
    p_values = [comparison.p_value for comparison in comparisons if comparison.p_value is not None]
    corrected = iter(multipletests(p_values, method="holm")[1]) if p_values else iter(())
    return tuple(
        comparison if comparison.p_value is None else replace(comparison, p_holm=float(next(corrected)))
        for comparison in comparisons
    )
