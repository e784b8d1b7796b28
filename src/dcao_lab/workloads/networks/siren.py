"""The layer of a SIREN (Sitzmann et al. 2020): sinusoidal representation networks."""

import math

from torch import Tensor, nn

FREQUENCY = 30.0  # omega of the paper


class Sine(nn.Module):
    """A linear layer and the sine of 30 times its output, with the initial weights of the paper."""

    def __init__(self, num_inputs: int, num_outputs: int, *, is_first: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(num_inputs, num_outputs)
        bound = 1 / num_inputs if is_first else math.sqrt(6 / num_inputs) / FREQUENCY
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (batch, outputs)."""
        features: Tensor = (FREQUENCY * self.linear(inputs)).sin()
        return features
