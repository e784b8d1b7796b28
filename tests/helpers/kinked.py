"""A ReLU network of one hidden layer on scikit-learn's digits, whose kinks along a line are known in closed form."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dcao.operators import FiniteDifferenceOperator


def digits(count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` images, as rows of 64 in float64, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.data[:count], dtype=torch.float64) / 16.0, torch.tensor(data.target[:count])


class OneHiddenLayer:
    """Cross-entropy of ``W2 relu(W1 x + b1) + b2`` over all images, as a function of one flat vector.

    Along a line the pre-activations are affine in the distance, so that each kink's place is a quotient.
    """

    def __init__(self, inputs: Tensor, labels: Tensor, *, width: int, seed: int) -> None:
        self.inputs, self.labels, self.width = inputs, labels, width
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        first, second = normal(width, 64) / 8.0, normal(10, width) / width**0.5
        parts = [first, 0.1 * normal(width), second, torch.zeros(10, dtype=torch.float64)]
        self.weights = torch.cat([part.flatten() for part in parts]).requires_grad_()

    def preactivations(self, w: Tensor) -> Tensor:
        """``W1 x + b1``, images x units."""
        first, bias = w[: 64 * self.width].view(self.width, 64), w[64 * self.width : 65 * self.width]
        return self.inputs @ first.T + bias

    def loss(self, w: Tensor) -> Tensor:
        """The loss."""
        second, bias = self._last_layer(w)
        return F.cross_entropy(torch.relu(self.preactivations(w)) @ second.T + bias, self.labels)

    def train(self, steps: int) -> None:
        """Full-batch SGD with momentum."""
        optimizer = torch.optim.SGD([self.weights], lr=0.1, momentum=0.9)
        for _ in range(steps):
            optimizer.zero_grad()
            self.loss(self.weights).backward()
            optimizer.step()

    def direction(self, seed: int) -> Tensor:
        """A random unit vector."""
        v = torch.randn(len(self.weights), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return v / v.norm()

    def nearest_kink(self) -> float:
        """Size of the smallest pre-activation."""
        return self.preactivations(self.weights).abs().min().item()

    def kinks(self, v: Tensor, length: float) -> list[tuple[float, float]]:
        """Place and jump of the slope along v, of each kink nearer than ``length``, in order.

        At a kink of the unit with pre-activation u and activation h the slope jumps by ``df/dh * |du/dt|``.
        """
        w = self.weights.detach()
        at, speed = self.preactivations(w), self.preactivations(v)
        images, units = ((at / speed).abs() < length).nonzero(as_tuple=True)
        places = -(at / speed)[images, units]
        hidden = torch.relu(at[images] + places[:, None] * speed[images])
        (second, bias), (second_v, bias_v) = self._last_layer(w), self._last_layer(v)
        logits = hidden @ second.T + bias + places[:, None] * (hidden @ second_v.T + bias_v)
        errors = (logits.softmax(dim=1) - F.one_hot(self.labels[images], 10)) / len(self.labels)
        slopes = (errors * (second[:, units].T + places[:, None] * second_v[:, units].T)).sum(dim=1)
        jumps = slopes * speed[images, units].abs()
        return sorted(zip(places.tolist(), jumps.tolist(), strict=True))

    def _last_layer(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return w[65 * self.width : 75 * self.width].view(10, self.width), w[75 * self.width :]

    def mean_curvature(self, v: Tensor, length: float, kinks: list[tuple[float, float]]) -> float:
        """Mean of ``v'Hv`` by double backward between ``-length`` and ``length``, Gauss' rule on each smooth piece."""
        nodes, weights = np.polynomial.legendre.leggauss(4)
        ends = [-length, *(where for where, _ in kinks), length]
        total = 0.0
        for start, end in itertools.pairwise(ends):
            for node, weight in zip(nodes, weights, strict=True):
                where = (start + end) / 2.0 + node * (end - start) / 2.0
                total += weight * (end - start) / 2.0 * self.curvature(v, where)
        return total / (2.0 * length)

    def curvature(self, v: Tensor, where: float) -> float:
        """``v'Hv`` at this place on the line, by double backward."""
        w = (self.weights.detach() + where * v).requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(w), w, create_graph=True)
        (product,) = torch.autograd.grad(gradient @ v, w)
        return (product @ v).item()

    def difference(self, v: Tensor, length: float) -> float:
        """``v'Hv`` by DCAO's central difference of this length."""
        operator = FiniteDifferenceOperator(lambda: self.loss(self.weights), [self.weights], step_length=length)
        return (operator.matvec(v) @ v).item()
