"""How far the runs of one place lie apart: between their quartiles, or from the smallest to the largest of few."""

from collections.abc import Iterable
from typing import Literal

Spread = Literal["range", "quartiles"]

# Of three or four runs a quartile is a point that somebody's rule puts between two of them (Hyndman and Fan 1996 list
# nine such rules, which differ by as much as it says); of five and more it is next to a run that was there.
FEW_RUNS = 5


def spread(num_runs: int) -> Spread:
    """What is shown beside the median of so many runs.

    Example:
        >>> spread(3), spread(5)
        ('range', 'quartiles')
    """
    return "range" if num_runs < FEW_RUNS else "quartiles"


def spread_shares(num_runs: int) -> tuple[float, float]:
    """The quantiles that it ends at.

    Example:
        >>> spread_shares(3), spread_shares(5)
        ((0.0, 1.0), (0.25, 0.75))
    """
    return (0.0, 1.0) if spread(num_runs) == "range" else (0.25, 0.75)


def spread_words(nums_runs: Iterable[int]) -> str:
    """What the spreads of places with so many runs each are called; empty where no place has two.

    Example:
        >>> spread_words([3, 3])
        'the range over seeds'
        >>> spread_words([5, 3])
        'the quartiles over seeds (of fewer than 5 the range)'
    """
    found = {spread(number) for number in nums_runs if number > 1}
    if found <= {"range"}:
        return "the range over seeds" if found else ""
    return "the quartiles over seeds" + (f" (of fewer than {FEW_RUNS} the range)" if "range" in found else "")
