"""Holm's correction for several comparisons."""

from collections.abc import Sequence
from dataclasses import replace

from statsmodels.stats.multitest import multipletests

from dcao_lab.statistics.paired import Comparison


def holm(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The comparisons with ``p_holm``, corrected for all that have a p-value, in the order given.

    The family is what is passed: pass every comparison that a table makes, not those that look good.

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
