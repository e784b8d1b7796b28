"""The ratio of two exponential averages over training steps."""


class SmoothedRatio:
    """Exponential averages of a numerator and a denominator, and their ratio.

    Both averages start at zero. The bias correction is the same for both, so it cancels.

    Args:
        decay: Decay of the averages a step, in [0, 1); 0 gives the ratio of the last values.

    Raises:
        ValueError: ``decay`` is outside [0, 1).

    Example:
        >>> ratio = SmoothedRatio(0.5)
        >>> ratio.update(1.0, 2.0), ratio.update(4.0, 2.0)
        (0.5, 1.5)
    """

    def __init__(self, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"smoothing must be in [0, 1), got {decay}; 0 averages nothing")
        self.decay = decay
        self.numerator = 0.0
        self.denominator = 0.0

    def update(self, numerator: float, denominator: float) -> float:
        """Add the values of a step to the averages, and return the ratio of the averages."""
        self.numerator = self._mixed(self.numerator, numerator)
        self.denominator = self._mixed(self.denominator, denominator)
        return self.numerator / self.denominator

    def _mixed(self, average: float, value: float) -> float:
        return self.decay * average + (1.0 - self.decay) * value
