"""Fully connected networks."""

from itertools import pairwise

from torch import nn


def perceptron(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers between these sizes, with an activation after each but the last.

    Example:
        >>> [type(layer).__name__ for layer in perceptron(2, 8, 1)]
        ['Linear', 'ReLU', 'Linear']
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])
