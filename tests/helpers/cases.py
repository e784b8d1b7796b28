"""Named problems for tests: tiny networks whose dense float64 Hessian is quick, and spectra with known eigenvalues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A model with one batch: ``loss()`` of all of it, ``loss(rows)`` of some rows (a mean over rows)."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    criterion: Callable[[Tensor, Tensor], Tensor]

    def loss(self, rows: slice = slice(None)) -> Tensor:
        return self.criterion(self.model(self.inputs[rows]), self.targets[rows])

    def batch(self, rows: slice) -> Problem:
        """The same model on some of the rows."""
        return replace(self, inputs=self.inputs[rows], targets=self.targets[rows])

    def outputs(self) -> Tensor:
        return self.model(self.inputs)

    @property
    def params(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    @property
    def size(self) -> int:
        return sum(p.numel() for p in self.params)


@dataclass(frozen=True, kw_only=True)
class NetworkCase:
    """A network, its inputs and targets, all drawn from one seed."""

    name: str
    model: Callable[[], nn.Module]
    inputs: Callable[[torch.Generator], Tensor]
    num_classes: int
    per_token: bool = False

    def problem(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.model().to(dtype)
        inputs = self.inputs(generator)
        shape = inputs.shape[:2] if self.per_token else inputs.shape[:1]
        targets = torch.randint(0, self.num_classes, shape, generator=generator)
        if inputs.dtype.is_floating_point:
            inputs = inputs.to(dtype)
        return Problem(model=model, inputs=inputs, targets=targets, criterion=_cross_entropy)


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


class LSTMClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self, width: int, num_heads: int, is_causal: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.num_heads, self.is_causal = num_heads, is_causal

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = self.qkv(x).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*heads, is_causal=self.is_causal)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width: int, is_causal: bool) -> None:
        super().__init__()
        self.attention = Attention(width, 2, is_causal)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


class TinyViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 6, kernel_size=4, stride=4)
        self.position = nn.Parameter(torch.randn(4, 6) * 0.1)
        self.block = Block(6, is_causal=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.block(tokens).mean(dim=1))


class TinyGPT(nn.Module):
    """The output layer is tied to the token embedding."""

    def __init__(self, vocabulary: int = 7, width: int = 6, length: int = 5) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.1)
        self.block = Block(width, is_causal=True)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.tokens(x) + self.position))


class Awkward(nn.Module):
    """One weight used twice, one layer frozen, one parameter that the loss does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, 3)
        self.unused = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.frozen(x))
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))


def relu_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 5, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


def _rows(*shape: int) -> Callable[[torch.Generator], Tensor]:
    return lambda generator: torch.randn(*shape, generator=generator)


def _tokens(generator: torch.Generator) -> Tensor:
    return torch.randint(0, 7, (7, 5), generator=generator)


NETWORK_CASES = [
    NetworkCase(name="mlp", model=mlp, inputs=_rows(7, 6), num_classes=3),
    NetworkCase(name="relu_cnn", model=relu_cnn, inputs=_rows(7, 1, 8, 8), num_classes=3),
    NetworkCase(name="lstm", model=LSTMClassifier, inputs=_rows(7, 4, 3), num_classes=3),
    NetworkCase(name="vit", model=TinyViT, inputs=_rows(7, 1, 8, 8), num_classes=3),
    NetworkCase(name="gpt", model=TinyGPT, inputs=_tokens, num_classes=7, per_token=True),
    NetworkCase(name="tied_frozen_unused", model=Awkward, inputs=_rows(7, 6), num_classes=3),
]
NETWORKS = {case.name: case for case in NETWORK_CASES}
SMOOTH_CASES = [case for case in NETWORK_CASES if case.name != "relu_cnn"]


@dataclass(frozen=True, kw_only=True)
class SpectrumCase:
    """A symmetric matrix with known eigenvalues in a random basis."""

    name: str
    eigenvalues: tuple[float, ...]

    def matrix(self, scale: float = 1.0, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
        n = len(self.eigenvalues)
        generator = torch.Generator().manual_seed(seed)
        Q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
        A = (Q * torch.tensor(self.eigenvalues, dtype=torch.float64) * scale) @ Q.T
        return ((A + A.T) / 2).to(dtype)


SPECTRUM_CASES = [
    SpectrumCase(name="network_like", eigenvalues=(1.0, 0.6, 0.4, *torch.logspace(-0.7, -6, 117).tolist())),
    SpectrumCase(name="uniform", eigenvalues=tuple(torch.linspace(-1.0, 1.0, 60).tolist())),
    SpectrumCase(name="negative", eigenvalues=tuple((-torch.logspace(0, -3, 40)).tolist())),
    SpectrumCase(name="outlier_below", eigenvalues=(-5.0, *torch.linspace(0.0, 1.0, 50).tolist())),
    SpectrumCase(name="multiple", eigenvalues=(3.0,) * 5 + (1.0,) * 20),
    SpectrumCase(name="one_parameter", eigenvalues=(3.0,)),
]
