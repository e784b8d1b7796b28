"""Limits on a simulated rate."""

from scipy import stats

# A correct rate falls outside with at most this probability. Seeds are fixed, so a test that passes keeps passing; the
# number only says how surprising a first failure would be.
SURPRISE = 1e-3


def within_binomial_limits(hits: int, num_trials: int, rate: float) -> bool:
    """Whether ``hits`` lies between the quantiles SURPRISE/2 and 1 - SURPRISE/2 of Binomial(num_trials, rate).

    At rate 0.05 and 1000 trials: 29 to 75 hits (mean 50, deviation sqrt(1000 0.05 0.95) = 6.9, times 3.3).
    """
    low, high = stats.binom.ppf([SURPRISE / 2, 1 - SURPRISE / 2], num_trials, rate)
    return low <= hits <= high
