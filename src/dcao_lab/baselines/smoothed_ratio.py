"""A ratio of two averages over training steps."""


class SmoothedRatio:
    """Exponential averages of a numerator and a denominator, and their ratio.

    Both start at zero; the correction that this asks for is the same for both and cancels.

    Args:
        decay: What the averages keep a step, in [0, 1); 0 is the ratio of the last values.

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
        """The ratio of the averages with these values in them."""
        self.numerator = self._mixed(self.numerator, numerator)
        self.denominator = self._mixed(self.denominator, denominator)
        return self.numerator / self.denominator

    def _mixed(self, average: float, value: float) -> float:
        return self.decay * average + (1.0 - self.decay) * value
